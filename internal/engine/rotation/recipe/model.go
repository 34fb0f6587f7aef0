package recipe

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A recipe is the parsed and checked text of a recipe. The recipe is immutable.
type recipe struct {
	def    rotation.Definition
	params map[string]cty.Type
	hosts  hcl.Expression

	create   *createStep
	verify   *verifyStep // nil: keys cannot be verified
	list     *listStep   // nil: none
	lastUsed *lastUsedStep
	disable  *removalStep
	retire   *removalStep
}

// A step is one request and the conditions on its reply.
type step struct {
	name    string // "create"; in errors
	at      hcl.Range
	ends    bool // it ends a key by creating another one in its slot
	changes bool // an unknown outcome may have had an effect

	method              string
	url, query, headers hcl.Expression
	auth                *auth
	body                body
	timeout             time.Duration
	status              []int
	when                hcl.Expression // nil: the status is enough
	fails               []fail
	example             hcl.Expression // a reply, for rehearsals; nil: none

	read *readStep // a request that is made before; nil: none
}

// creates reports whether the reply may hold a new key.
func (s *step) creates() bool { return s.name == "create" || s.name == "poll" || s.ends }

// A readStep reads a value that the request after it uses.
type readStep struct {
	step
	value hcl.Expression
}

// A pollStep asks for the state of an operation until the operation has ended.
type pollStep struct {
	step
	until            hcl.Expression
	interval, within time.Duration
}

// An auth says how a request authenticates. Only the fields of its kind are set.
type auth struct {
	kind               string // "bearer", "basic", "digest", "header", "none"
	token              hcl.Expression
	username, password hcl.Expression
	headers            hcl.Expression
}

// A body is the body of a request. At most one kind is set.
type body struct {
	json, form, raw  hcl.Expression
	query, variables hcl.Expression // of graphql
	contentType      hcl.Expression
}

// A fail assigns an outcome to a failed reply.
type fail struct {
	outcome rotate.Outcome
	when    hcl.Expression
}

// An output is the expression for one value of a credential.
type output struct {
	name string
	expr hcl.Expression
}

type createStep struct {
	step
	id             hcl.Expression
	secret, public []output
	expires        hcl.Expression // nil: never, or not known
	poll           *pollStep      // nil: the reply has the new key
}

type verifyStep struct {
	step
	rejected       hcl.Expression // nil: 401 and 403
	exampleRefused hcl.Expression // an example of the reply to a key that is dead; nil: none
}

type listStep struct {
	step
	next                                   hcl.Expression // nil: one page
	items, where                           hcl.Expression
	id, label, created, lastUsed, disabled hcl.Expression
}

type lastUsedStep struct {
	step
	value hcl.Expression
}

type removalStep struct {
	step
	absent hcl.Expression // nil: 404 and 410
}

// family is the name of the provider of recipes in a key's configuration.
const family = "recipe"
