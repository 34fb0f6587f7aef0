// Package recipe rotates third-party keys as recipes describe. A recipe is an HCL file with
// expressions and no code, one for each kind of key. recipes/http-demo.hcl shows the form.
//
// A text is checked completely before anything uses it. parse evaluates every expression with
// unknown values, and so reports every wrong name, function or type at once, each with its line.
// An expression sees its parameters, the reply and pure functions. An expression has no access to
// files or the environment, and no clock but "now". The limits in check.go and value.go bound what
// an expression can cost, even with a hostile reply.
//
// Evaluation needs plaintext. cty values that hold a secret carry a mark and live inside one call.
// The redactor learns every text that was computed from a secret, and the text of every error
// passes through the redactor. An error quotes only the diagnostics that cannot hold a value.
package recipe
