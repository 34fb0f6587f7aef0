package rotationtest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
)

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func sendgrid(a *api) {
	failure := func(message string) any { return object{"errors": []object{{"field": nil, "message": message}}} }
	a.failure = func(_ int, text string) any { return failure(text) }
	a.full = answer{status: 403, body: failure("Cannot create more than 100 API Keys")}
	a.dead = answer{status: 401, body: failure("authorization required")}
	const host = "api.sendgrid.com"
	a.on("POST "+host+"/v3/api_keys", func(r *http.Request) (answer, error) {
		in := body(r)
		if dig(in, "scopes", 0) == "" {
			return answer{}, keyserver.ErrBadRequest // the vendor would give full access
		}
		k, err := a.Create(r.Context(), bearer(r), dig(in, "name"))
		return answer{status: 201, body: object{"api_key": k.Secret, "api_key_id": k.ID, "name": k.Label,
			"scopes": in["scopes"]}}, err
	})
	a.on("GET "+host+"/v3/scopes", func(r *http.Request) (answer, error) {
		_, err := a.use(r, bearer(r))
		return answer{status: 200, body: object{"scopes": []string{"mail.send"}}}, err
	})
	a.on("GET "+host+"/v3/api_keys", func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), bearer(r))
		page, _ := each(all, 0, len(all), func(k keyserver.Key) object {
			return object{"api_key_id": k.ID, "name": k.Label}
		})
		return answer{status: 200, body: object{"result": page}}, err
	})
	a.on("DELETE "+host+"/v3/api_keys/{id}", func(r *http.Request) (answer, error) {
		return answer{status: 204}, a.Delete(r.Context(), bearer(r), r.PathValue("id"))
	})
}

func twilio(a *api) {
	a.failure = func(status int, text string) any {
		return object{"code": 20000 + status, "message": text, "status": status}
	}
	a.dead = answer{status: 401, body: object{"code": 20003, "message": "Authenticate", "status": 401}}
	admin := func(r *http.Request) string {
		if user, password, ok := r.BasicAuth(); ok && user == password { // both are the admin token
			return password
		}
		return ""
	}
	a.on("POST iam.twilio.com/v1/Keys", func(r *http.Request) (answer, error) {
		if r.PostFormValue("AccountSid") != "AC1" || r.PostForm.Has("KeyType") {
			return answer{}, keyserver.ErrBadRequest
		}
		k, err := a.Create(r.Context(), admin(r), r.PostFormValue("FriendlyName"))
		return answer{status: 201, body: object{"sid": k.ID, "friendly_name": k.Label, "secret": k.Secret,
			"policy":       nil,
			"date_created": "Mon, 13 Jun 2016 22:50:08 +0000", "date_updated": "Mon, 13 Jun 2016 22:50:08 +0000"}}, err
	})
	a.on("GET api.twilio.com/2010-04-01/Accounts/AC1/Messages.json", func(r *http.Request) (answer, error) {
		sid, secret, _ := r.BasicAuth()
		k, err := a.use(r, secret)
		if err == nil && k.ID != sid {
			err = errDead
		}
		return answer{status: 200, body: object{"messages": []any{}, "page": 0, "page_size": 1}}, err
	})
	a.on("GET iam.twilio.com/v1/Keys", func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), admin(r))
		at := number(r.FormValue("Page")) * 100
		page, more := each(all, at, 100, func(k keyserver.Key) object {
			return object{"sid": k.ID, "friendly_name": k.Label, "date_created": "Mon, 13 Jun 2016 22:50:08 +0000"}
		})
		meta := object{"page": at / 100, "page_size": 100, "next_page_url": nil, "key": "keys"}
		if more {
			meta["next_page_url"] = fmt.Sprintf(
				"https://iam.twilio.com/v1/Keys?AccountSid=AC1&PageSize=100&Page=%d&PageToken=PT", at/100+1)
		}
		return answer{status: 200, body: object{"keys": page, "meta": meta}}, err
	})
	a.on("DELETE iam.twilio.com/v1/Keys/{id}", func(r *http.Request) (answer, error) {
		return answer{status: 204}, a.Delete(r.Context(), admin(r), r.PathValue("id"))
	})
}

func openai(a *api) {
	a.failure = func(_ int, text string) any {
		return object{"error": object{"message": text, "type": "invalid_request_error", "param": nil, "code": nil}}
	}
	a.dead = answer{status: 401,
		body: object{"error": object{"message": "Incorrect API key provided", "code": "invalid_api_key"}}}
	const keys = "api.openai.com/v1/organization/projects/proj_1/"
	a.on("POST "+keys+"service_accounts/svc_1/api_keys", func(r *http.Request) (answer, error) {
		k, err := a.Create(r.Context(), bearer(r), dig(body(r), "name"))
		return answer{status: 200, body: object{"object": "organization.project.service_account.api_key", "id": k.ID,
			"value": k.Secret, "name": k.Label, "created_at": k.Created.Unix(), "expires_at": nil}}, err
	})
	a.on("GET api.openai.com/v1/models", func(r *http.Request) (answer, error) {
		_, err := a.use(r, bearer(r))
		return answer{status: 200, body: object{"object": "list", "data": []any{}}}, err
	})
	a.on("GET "+keys+"api_keys", func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), bearer(r))
		from := 0
		if after := r.FormValue("after"); after != "" {
			from = slices.IndexFunc(all, func(k keyserver.Key) bool { return k.ID == after }) + 1
		}
		page, more := each(all, from, number(r.FormValue("limit")), func(k keyserver.Key) object {
			return object{"object": "organization.project.api_key", "id": k.ID, "name": k.Label,
				"created_at": k.Created.Unix(), "last_used_at": unix(k.LastUsed)}
		})
		out := object{"object": "list", "data": page, "has_more": more, "last_id": nil}
		if len(page) > 0 {
			out["last_id"] = page[len(page)-1]["id"]
		}
		return answer{status: 200, body: out}, err
	})
	a.on("DELETE "+keys+"api_keys/{id}", func(r *http.Request) (answer, error) {
		id := r.PathValue("id")
		deleted := object{"object": "organization.project.api_key.deleted", "id": id, "deleted": true}
		return answer{status: 200, body: deleted}, a.Delete(r.Context(), bearer(r), id)
	})
}

func datadog(a *api) {
	a.failure = func(_ int, text string) any { return object{"errors": []string{text}} }
	a.dead = answer{status: 403, body: object{"errors": []string{"Forbidden"}}}
	admin := func(r *http.Request) string {
		if key := r.Header.Get("DD-API-KEY"); key == r.Header.Get("DD-APPLICATION-KEY") { // both are the admin token
			return key
		}
		return ""
	}
	const keys = "api.datadoghq.com/api/v2/api_keys"
	a.on("POST "+keys, func(r *http.Request) (answer, error) {
		k, err := a.Create(r.Context(), admin(r), dig(body(r), "data", "attributes", "name"))
		return answer{status: 201, body: object{"data": object{"type": "api_keys", "id": k.ID, "attributes": object{
			"name": k.Label, "key": k.Secret, "last4": "cdef", "created_at": rfc3339(k.Created)}}}}, err
	})
	a.on("GET api.datadoghq.com/api/v1/validate", func(r *http.Request) (answer, error) {
		_, err := a.use(r, r.Header.Get("DD-API-KEY"))
		return answer{status: 200, body: object{"valid": true}}, err
	})
	a.on("GET "+keys, func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), admin(r))
		size := number(r.FormValue("page[size]"))
		page, _ := each(all, number(r.FormValue("page[number]"))*size, size, func(k keyserver.Key) object {
			return object{"type": "api_keys", "id": k.ID, "attributes": object{"name": k.Label, "last4": "cdef",
				"created_at": rfc3339(k.Created), "date_last_used": rfc3339(k.LastUsed)}}
		})
		return answer{status: 200, body: object{"data": page}}, err
	})
	a.on("DELETE "+keys+"/{id}", func(r *http.Request) (answer, error) {
		return answer{status: 204}, a.Delete(r.Context(), admin(r), r.PathValue("id"))
	})
}

// newRelic answers 200 to calls that its key service refuses.
func newRelic(a *api) {
	bad := object{"errors": []object{{"message": "Invalid API key", "extensions": object{"errorCode": "BAD_API_KEY"}}}}
	a.failure = func(_ int, text string) any { return object{"errors": []object{{"message": text}}} }
	a.dead = answer{status: 200, body: bad}
	a.on("POST api.newrelic.com/graphql", func(r *http.Request) (answer, error) {
		in, token := body(r), r.Header.Get("API-Key")
		query := dig(in, "query")
		switch {
		case strings.Contains(query, "apiAccessCreateKeys("):
			k, err := a.Create(r.Context(), token, dig(in, "variables", "keys", "user", 0, "name"))
			return answer{status: 200, body: object{"data": object{"apiAccessCreateKeys": object{"errors": []any{},
				"createdKeys": []object{{"id": k.ID, "key": k.Secret, "name": k.Label}}}}}}, err
		case strings.Contains(query, "apiAccessDeleteKeys("):
			return a.deleteNewRelicKey(r, token, dig(in, "variables", "keys", "userKeyIds", 0))
		case strings.Contains(query, "keySearch("):
			all, err := a.List(r.Context(), token)
			from := number(dig(in, "variables", "cursor"))
			page, more := each(all, from, 100, func(k keyserver.Key) object {
				return object{"id": k.ID, "name": k.Label, "createdAt": k.Created.Unix()}
			})
			found := object{"keys": page, "nextCursor": nil}
			if more {
				found["nextCursor"] = fmt.Sprint(from + 100)
			}
			found = object{"actor": object{"apiAccess": object{"keySearch": found}}}
			return answer{status: 200, body: object{"data": found}}, err
		}
		_, err := a.use(r, token)
		return answer{status: 200, body: object{"data": object{"actor": object{"user": object{"id": 7}}}}}, err
	})
}

func (a *api) deleteNewRelicKey(r *http.Request, token, id string) (answer, error) {
	deleted := object{"deletedKeys": []object{{"id": id}}, "errors": []any{}}
	err := a.Delete(r.Context(), token, id)
	if errors.Is(err, keyserver.ErrNotFound) {
		deleted = object{"deletedKeys": []any{}, "errors": []object{{"message": "Key not found", "type": "USER",
			"userErrorType": "NOT_FOUND"}}}
		err = nil
	}
	return answer{status: 200, body: object{"data": object{"apiAccessDeleteKeys": deleted}}}, err
}

func atlas(a *api) {
	a.failure = func(status int, text string) any { return object{"error": status, "reason": text, "detail": text} }
	a.dead = answer{status: 401, body: object{"error": 401, "reason": "Unauthorized"}}
	admin := func(password string, check func(string) bool) string {
		if check(password) {
			return password
		}
		return ""
	}
	const org = "cloud.mongodb.com/api/atlas/v2/orgs/org1"
	a.onDigest("POST "+org+"/apiKeys", func(r *http.Request, _ string, check func(string) bool) (answer, error) {
		k, err := a.Create(r.Context(), admin(a.adminToken, check), dig(body(r), "desc"))
		return answer{status: 200, body: object{"id": k.ID, "desc": k.Label, "publicKey": "pub-" + k.ID,
			"privateKey": k.Secret}}, err
	})
	a.onDigest("GET "+org, func(r *http.Request, user string, check func(string) bool) (answer, error) {
		secret := ""
		for _, k := range a.Issued() {
			if "pub-"+k.ID == user && check(k.Secret) {
				secret = k.Secret
			}
		}
		_, err := a.use(r, secret)
		return answer{status: 200, body: object{"id": "org1", "name": "example"}}, err
	})
	a.onDigest("GET "+org+"/apiKeys", func(r *http.Request, _ string, check func(string) bool) (answer, error) {
		all, err := a.List(r.Context(), admin(a.adminToken, check))
		size := number(r.FormValue("itemsPerPage"))
		page, _ := each(all, (number(r.FormValue("pageNum"))-1)*size, size, func(k keyserver.Key) object {
			return object{"id": k.ID, "desc": k.Label, "publicKey": "pub-" + k.ID}
		})
		return answer{status: 200, body: object{"results": page, "totalCount": len(all)}}, err
	})
	one := org + "/apiKeys/{id}"
	a.onDigest("DELETE "+one, func(r *http.Request, _ string, check func(string) bool) (answer, error) {
		return answer{status: 204}, a.Delete(r.Context(), admin(a.adminToken, check), r.PathValue("id"))
	})
}

func cloudflare(a *api) {
	reply := func(result any) answer {
		return answer{status: 200,
			body: object{"success": true, "errors": []any{}, "messages": []any{}, "result": result}}
	}
	failure := func(code int, text string) object {
		return object{"success": false, "errors": []object{{"code": code, "message": text}}, "result": nil}
	}
	a.failure = func(status int, text string) any { return failure(10000+status, text) }
	a.dead = answer{status: 401, body: failure(1000, "Invalid API Token")}
	group := object{"id": "c8fed203ed3043cba015a93ad1616f1f", "name": "Zone Read"}
	policies := []object{{"id": "p1", "effect": "allow", "resources": object{"zone": "*"},
		"permission_groups": []object{group}}}
	show := func(k keyserver.Key) object {
		out := object{"id": k.ID, "name": k.Label, "status": "active", "policies": policies,
			"issued_on": rfc3339(k.Created), "last_used_on": rfc3339(k.LastUsed)}
		if !k.Disabled.IsZero() {
			out["status"] = "disabled"
		}
		return out
	}
	const tokens = "api.cloudflare.com/client/v4/user/tokens"
	a.on("GET "+tokens+"/{id}", func(r *http.Request) (answer, error) {
		if r.PathValue("id") == "template" {
			return reply(show(keyserver.Key{ID: "template", Label: "by hand"})), nil
		}
		k, err := a.Get(r.Context(), bearer(r), r.PathValue("id"))
		return reply(show(k)), err
	})
	a.on("POST "+tokens, func(r *http.Request) (answer, error) {
		in := body(r)
		if dig(in, "policies", 0, "permission_groups", 0, "id") != group["id"] || dig(in, "status") != "" {
			return answer{}, keyserver.ErrBadRequest
		}
		k, err := a.Create(r.Context(), bearer(r), dig(in, "name"))
		out := show(k)
		out["value"] = k.Secret
		return reply(out), err
	})
	a.on("GET "+tokens+"/verify", func(r *http.Request) (answer, error) {
		k, err := a.use(r, bearer(r))
		for _, disabled := range a.Issued() {
			if errors.Is(err, errDead) && disabled.Secret == bearer(r) && disabled.Deleted.IsZero() {
				return reply(object{"id": disabled.ID, "status": "disabled"}), nil
			}
		}
		return reply(object{"id": k.ID, "status": "active"}), err
	})
	a.on("GET "+tokens, func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), bearer(r))
		size := number(r.FormValue("per_page"))
		page, _ := each(all, (number(r.FormValue("page"))-1)*size, size, show)
		return reply(page), err
	})
	a.on("PUT "+tokens+"/{id}", func(r *http.Request) (answer, error) {
		in := body(r)
		if dig(in, "name") == "" || dig(in, "policies", 0, "effect") == "" || dig(in, "status") != "disabled" {
			return answer{}, keyserver.ErrBadRequest
		}
		id := r.PathValue("id")
		return reply(object{"id": id, "status": "disabled"}), a.Disable(r.Context(), bearer(r), id, true)
	})
	a.on("DELETE "+tokens+"/{id}", func(r *http.Request) (answer, error) {
		id := r.PathValue("id")
		return reply(object{"id": id}), a.Delete(r.Context(), bearer(r), id)
	})
}

// gcp ends an operation at the second time that somebody asks for its state.
func gcp(a *api) {
	a.failure = func(status int, text string) any { return object{"error": object{"code": status, "message": text}} }
	a.dead = answer{status: 400, body: object{"error": object{"code": 400, "status": "INVALID_ARGUMENT",
		"details": []object{{"reason": "API_KEY_INVALID"}}}}}
	const full = "operations/akmf.p7-1-full"
	a.full = answer{status: 200, body: object{"name": full}}
	var asked sync.Map
	const keys = "apikeys.googleapis.com/v2/projects/p1/locations/global/keys"
	a.on("POST "+keys, func(r *http.Request) (answer, error) {
		in := body(r)
		if dig(in, "restrictions", "apiTargets", 0, "service") != "translation.googleapis.com" {
			return answer{}, keyserver.ErrBadRequest
		}
		k, err := a.Create(r.Context(), bearer(r), dig(in, "displayName"))
		return answer{status: 200, body: object{"name": "operations/akmf.p7-1-" + k.ID}}, err
	})
	a.on("GET apikeys.googleapis.com/v2/operations/{id}", func(r *http.Request) (answer, error) {
		name := "operations/" + r.PathValue("id")
		if name == full {
			return answer{status: 200, body: object{"name": name, "done": true,
				"error": object{"code": 8, "message": "the limit of keys is reached"}}}, nil
		}
		if _, again := asked.LoadOrStore(name, true); !again {
			return answer{status: 200, body: object{"name": name}}, nil
		}
		for _, k := range a.Issued() {
			if name == "operations/akmf.p7-1-"+k.ID {
				return answer{status: 200, body: object{"name": name, "done": true, "response": object{
					"name": "projects/1/locations/global/keys/" + k.ID, "uid": k.ID, "displayName": k.Label,
					"keyString": k.Secret, "createTime": rfc3339(k.Created)}}}, nil
			}
		}
		return answer{}, keyserver.ErrNotFound
	})
	a.on("GET translation.googleapis.com/language/translate/v2/languages", func(r *http.Request) (answer, error) {
		_, err := a.use(r, r.Header.Get("X-Goog-Api-Key"))
		return answer{status: 200, body: object{"data": object{"languages": []any{}}}}, err
	})
	a.on("GET "+keys, func(r *http.Request) (answer, error) {
		all, err := a.List(r.Context(), bearer(r))
		from, size := number(r.FormValue("pageToken")), number(r.FormValue("pageSize"))
		page, more := each(all, from, size, func(k keyserver.Key) object {
			return object{"uid": k.ID, "displayName": k.Label, "createTime": rfc3339(k.Created)}
		})
		out := object{"keys": page}
		if len(page) == 0 {
			out = object{} // as Google leaves out what is empty
		}
		if more {
			out["nextPageToken"] = fmt.Sprint(from + size)
		}
		return answer{status: 200, body: out}, err
	})
	a.on("DELETE "+keys+"/{id}", func(r *http.Request) (answer, error) {
		return answer{status: 200, body: object{"name": "operations/akmf.p7-1-deleted"}},
			a.Delete(r.Context(), bearer(r), r.PathValue("id"))
	})
}
