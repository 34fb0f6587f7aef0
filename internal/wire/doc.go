// Package wire implements Vault's JSON: it decodes requests in all the lax forms that Vault's
// clients send, and has the only encoder of answers.
//
// Requests: [Decode] fills a struct by its json tags and accepts a duration as
// 3600, "3600" or "1h", a list as an array or a comma-separated string, a
// boolean or a number as its text. A field that the struct does not have is
// returned by name, so that the answer can warn of it.
//
// Answers: for each type a plan is made once, with two writers. The client's
// ([Append]) reveals [secret.Value]s; audit's ([AppendAudit]) hands every leaf
// – string, number and boolean – to a function that replaces it by its HMAC.
// The two walk the same plan, so a field cannot be in one form and slip past
// the other. [Raw] is a user's JSON kept as bytes: its numbers are unchanged.
//
// Durations are whole seconds on the wire. Times are RFC 3339 in UTC with
// nanoseconds, the zero time is "".
package wire
