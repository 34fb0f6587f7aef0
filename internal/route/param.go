package route

// A Param is one parameter of a route, for those who read of it. It comes from
// the request type: the tag doc:"…" says what it is for, default:"…" what holds
// where it is not given.
type Param struct {
	Name    string
	In      string // "path", "query" or "body"
	Type    string // "string", "duration", "list of strings" …
	Default string
	Doc     string
	Secret  bool
}
