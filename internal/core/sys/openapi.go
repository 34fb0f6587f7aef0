package sys

import (
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
)

// The document of sys/internal/specs/openapi, in the format of OpenAPI 3.0.2. Vault's client
// generators read the members whose names begin with x-vault-.
type (
	openAPI struct {
		OpenAPI    string             `json:"openapi"`
		Info       apiInfo            `json:"info"`
		Paths      map[string]apiPath `json:"paths"`
		Components struct {
			Schemas map[string]apiSchema `json:"schemas"`
		} `json:"components"`
	}
	apiInfo struct {
		Title       string     `json:"title"`
		Description string     `json:"description"`
		Version     string     `json:"version"`
		License     apiLicense `json:"license"`
	}
	apiLicense struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	apiPath struct {
		Description     string         `json:"description,omitempty"`
		Parameters      []apiParameter `json:"parameters,omitempty"`
		Sudo            bool           `json:"x-vault-sudo,omitempty"`
		Unauthenticated bool           `json:"x-vault-unauthenticated,omitempty"`
		Get             *apiOperation  `json:"get,omitempty"`
		Post            *apiOperation  `json:"post,omitempty"`
		Patch           *apiOperation  `json:"patch,omitempty"`
		Delete          *apiOperation  `json:"delete,omitempty"`
	}
	apiParameter struct {
		Name        string    `json:"name"`
		In          string    `json:"in"`
		Description string    `json:"description,omitempty"`
		Required    bool      `json:"required,omitempty"`
		Schema      apiSchema `json:"schema"`
	}
	apiOperation struct {
		Summary     string                 `json:"summary,omitempty"`
		OperationID string                 `json:"operationId"`
		Deprecated  bool                   `json:"deprecated,omitempty"`
		Tags        []string               `json:"tags"`
		Parameters  []apiParameter         `json:"parameters,omitempty"`
		Body        *apiBody               `json:"requestBody,omitempty"`
		Responses   map[string]apiResponse `json:"responses"`
	}
	apiBody struct {
		Content map[string]apiContent `json:"content"`
	}
	apiContent struct {
		Schema apiSchema `json:"schema"`
	}
	apiResponse struct {
		Description string `json:"description"`
	}
	apiSchema struct {
		Type        string               `json:"type,omitempty"`
		Description string               `json:"description,omitempty"`
		Format      string               `json:"format,omitempty"`
		Default     string               `json:"x-default,omitempty"`
		Items       *apiSchema           `json:"items,omitempty"`
		Properties  map[string]apiSchema `json:"properties,omitempty"`
	}
)

// openAPIOf describes the routes of the mounts whose paths are visible.
func openAPIOf(snapshot *mounts.Snapshot, visible func(path string) bool, version string) openAPI {
	doc := openAPI{OpenAPI: "3.0.2", Paths: map[string]apiPath{}}
	doc.Info = apiInfo{
		Title: "Keyturn API", Version: version,
		Description: "The HTTP API of Keyturn, compatible with HashiCorp Vault's. Paths are below /v1/.",
		License:     apiLicense{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
	}
	doc.Components.Schemas = map[string]apiSchema{}
	for _, class := range []string{mount.ClassSecret, mount.ClassAuth} {
		for _, e := range snapshot.Table.Live(class) {
			if o := snapshot.ByUUID(e.UUID); o != nil && visible(e.Path) {
				doc.add(e, o.Table.Routes())
			}
		}
	}
	return doc
}

// add describes the routes of one mount.
func (d *openAPI) add(e *mount.Entry, routes []route.Route) {
	tag := map[string]string{mount.ClassSecret: "secrets", mount.ClassAuth: "auth"}[e.Class]
	if e.Type == "system" {
		tag = "system"
	}
	for i := range routes {
		r := &routes[i]
		path := "/" + e.Path + strings.ReplaceAll(r.Pattern, "...}", "}")
		if r.Op == route.List {
			path = strings.TrimSuffix(path, "/") + "/" // the reference describes lists there
		}
		p := d.Paths[path]
		d.Paths[path] = describe(p, r, tag, path)
	}
}

// describe adds one route to the description of its path.
func describe(p apiPath, r *route.Route, tag, path string) apiPath {
	p.Sudo, p.Unauthenticated = p.Sudo || r.Sudo, p.Unauthenticated || r.Public
	if p.Description == "" {
		p.Description = r.Help
	}
	op := &apiOperation{Summary: r.Help, Deprecated: r.Deprecated, Tags: []string{
		tag,
	}, OperationID: operationID(string(r.Op), path), Responses: map[string]apiResponse{}}
	op.Responses["200"] = apiResponse{Description: "OK"}
	body := apiSchema{Type: "object", Properties: map[string]apiSchema{}}
	for _, param := range r.Params() {
		switch param.In {
		case "path":
			if !slices.ContainsFunc(p.Parameters, func(q apiParameter) bool { return q.Name == param.Name }) {
				p.Parameters = append(p.Parameters, apiParameter{
					Name: param.Name, In: "path", Description: param.Doc, Required: true, Schema: schemaOf(param.Type),
				})
			}
		case "query":
			op.Parameters = append(op.Parameters,
				apiParameter{Name: param.Name, In: "query", Description: param.Doc, Schema: schemaOf(param.Type)})
		default:
			s := schemaOf(param.Type)
			s.Description, s.Default = param.Doc, param.Default
			body.Properties[param.Name] = s
		}
	}
	if len(body.Properties) > 0 {
		op.Body = &apiBody{Content: map[string]apiContent{"application/json": {Schema: body}}}
	}
	switch r.Op {
	case route.Read:
		p.Get = op
	case route.List:
		op.Parameters = append(op.Parameters, apiParameter{
			Name: "list", In: "query", Required: true, Description: "Must be true.", Schema: apiSchema{Type: "string"},
		})
		p.Get = op
	case route.Delete:
		p.Delete = op
	case route.Patch:
		p.Patch = op
	default:
		p.Post = op
	}
	return p
}

// operationID names an operation: "read-database-roles-name".
func operationID(op, path string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		case c == '{', c == '}':
			return -1
		}
		return '-'
	}, path)
	return op + strings.TrimSuffix(name, "-")
}

// schemaOf is the schema of a parameter's type, as [route.Param] names types.
func schemaOf(kind string) apiSchema {
	if element, ok := strings.CutPrefix(kind, "list of "); ok {
		s := schemaOf(strings.TrimSuffix(element, "s"))
		return apiSchema{Type: "array", Items: &s}
	}
	switch kind {
	case "string", "boolean", "integer", "number":
		return apiSchema{Type: kind}
	case "duration":
		return apiSchema{Type: "string", Format: "duration"}
	case "time":
		return apiSchema{Type: "string", Format: "date-time"}
	}
	return apiSchema{Type: "object"}
}
