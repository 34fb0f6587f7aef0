package route

// A Table finds the route of a request below one mount. It is immutable.
type Table struct {
	routes []Route
	root   *node
}

// node is one segment position of the tree of patterns.
type node struct {
	literal map[string]*node
	name    *node // "{name}"
	rest    map[Op]*leaf
	here    map[Op]*leaf
}

// leaf is a route with the names its pattern gives to segments.
type leaf struct {
	route *Route
	names []string // in order; the rest's name last
}

type found struct {
	*leaf
	values []string
}
