package database

type nameIn struct {
	Name string `path:"name" doc:"The connection's name."`
}

// nonNil returns a list that is never null in an answer.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
