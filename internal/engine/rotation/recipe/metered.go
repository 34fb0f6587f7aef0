package recipe

// metered is how a meter ends an evaluation from deep within: HCL goes on with a loop whose body
// has failed.
type metered struct{ err error }
