// Package rotate rotates credentials on schedule and on request. Each credential that rotates has
// a record here, whichever engine owns the credential. This package alone schedules, retries,
// journals, verifies, publishes, retires and recovers. An engine supplies a [Target] for each
// record and keeps its own requests and configuration.
//
// A rotation goes through these states, which the tables in transitions.go define:
//
//	scheduled → creating → settling → verifying → publishing → grace → retiring → done
//	                any of them before retiring → rolling-back → … → failed, rolled-back
//
// or, where the secret changes in place:
//
//	scheduled → setting → done, failed
//	                    → rolling-back → failed, if the provider refuses what it has set
//
// The store has these keys below the mount. The [Kind] names the prefixes:
//
//	<records><name>             the record
//	<secrets><name>             its secrets
//	<history><name>/<number>    a rotation that has ended
//	<journal><name>/<commit>    one row for each commit
//
// # Invariants
//
//   - A state is a row of a table. A step is one function that makes at most one external
//     call. The intent of the call is durable before the call, and its result is the next
//     commit. Every commit asserts the record's version and holds the moved due item, an event
//     and a row of the journal.
//   - A destructive call – it retires, disables or sets a credential – comes right after a commit
//     that asserts the record's version and records until when the call may be under way. Until
//     then no other server makes such a call.
//   - Nothing is published before it is verified. A credential is retired only after its
//     replacement was published and every reader has had time to read the replacement. Two
//     credentials are retired sooner: a leaked one, and a new one that was never published. Only
//     credentials that are recorded as ours are retired.
//   - What consumers read is the truth: a credential that consumers still read is not retired.
//   - The store is the only memory. A process may die at any point; the next one continues from
//     the record. A creating call without a recorded result may still take effect until its late
//     time has passed, and the rotation does not end before then.
//
// # Files
//
// A file uses only what the files below it declare. From the bottom: a record and its parts
// (record, credential, secrets, marker, target, kind, manager); one record in hand, its commits
// and its journal (edit, exchange, history, alert, census); code that several steps share
// (transitions, progress, planning, listing, leaving, truth); the steps of a rotation (create,
// prove, publish, set, retire); writes of published secrets by clients (pastrotations, placewrite,
// hand, overwrite, look); the loop that runs the steps (machine, walk) and access to records
// (reading, change); requests (control, find, orphans, return); what is shown (status, tally).
//
// # Locking
//
// One lock per record is held over each step and over each change by a request. A request
// therefore waits for the call in progress. The lock only saves work. The guard is the version
// that each commit asserts, because another server may hold the same record.
package rotate
