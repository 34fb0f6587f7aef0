package route

// A Param describes one parameter of a route, for the documentation. It comes from the request
// type: the tag doc:"…" is its description, default:"…" its default.
type Param struct {
	Name    string
	In      string // "path", "query" or "body"
	Type    string // "string", "duration", "list of strings" …
	Default string
	Doc     string
	Secret  bool
}
