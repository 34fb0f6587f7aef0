// Package recipe turns third-party keys as recipes say: HCL files with expressions
// and no code, one per kind of key. recipes/http-demo.hcl shows the form.
//
// A text is checked in full before anything uses it: parse evaluates every expression with
// unknown values, so that a wrong name, function or type is told with its line, all at
// once. An expression sees its parameters, the reply, and pure functions; it has no file,
// no environment and no clock but "now". The limits in check.go and value.go bound what it
// can cost, also with a hostile reply.
//
// Evaluation needs plaintext. Values of cty that hold a secret carry a mark and live inside one
// call; the redactor learns every text that a secret went into, and every error's text passes it.
// Of diagnostics only those are quoted that cannot hold a value.
package recipe
