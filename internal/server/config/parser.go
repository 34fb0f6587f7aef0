package config

// A parser gathers one configuration from several files.
type parser struct {
	known  Known
	report *report
	server Server
	drafts []*draft            // of the listeners
	set    map[string]Position // where a key of the top level was given
	seals  int
	mode   *Server // the development mode; nil: the files are all there is
}

func newParser(known Known) *parser {
	return &parser{
		known: known, report: newReport(), set: map[string]Position{},
		server: Server{
			MaxRequestTime: defaultMaxTime, RotationSeries: defaultRotationSeries, given: given{},
			Log: Log{Format: "text", RotateEvery: defaultRotateEvery},
		},
	}
}
