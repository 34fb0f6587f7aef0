// Package rotate keeps what must be replaced again and again: each credential that rotates is a
// record here, whichever engine owns it. The package alone schedules, retries, journals, verifies,
// publishes, retires and recovers; an engine gives it a [Target] for each record, and keeps its
// requests and its configuration.
//
// A rotation goes through these states, as the tables in transitions.go say:
//
//	scheduled → creating → settling → verifying → publishing → grace → retiring → done
//	                any of them before retiring → rolling-back → … → failed, rolled-back
//
// or, where the secret changes in place:
//
//	scheduled → setting → done, failed
//	                    → rolling-back → failed, where the provider refuses what it says it has set
//
// Keys of the store, below the mount, with the prefixes that the [Kind] names:
//
//	<records><name>             the record
//	<secrets><name>             its secrets
//	<history><name>/<number>    a rotation that has ended
//	<journal><name>/<commit>    one row for each commit
//
// # Invariants
//
//   - A state is a row of a table, and a step is one function that makes at most one call
//     to the outside. Its intent is durable before the call, and its result is the
//     next commit. Every commit asserts the record's version and holds the
//     moved due item, an event and a row of the journal.
//   - A call that takes something away at the provider – it retires, disables or sets – comes right after
//     a commit that asserts the version and says until when the call may be under way. Until then no
//     other server makes another one.
//   - Nothing is published before it is verified. Nothing is retired before its replacement
//     was published and every reader has had time to read it, except a leaked
//     credential, and a new one that was never published. Nothing is retired that is not
//     recorded as ours.
//   - What consumers read is the truth: a credential that they still read is not retired.
//   - All memory is the store. A process that dies anywhere goes on from the record: a
//     creating call without a recorded result may have had its effect until its late
//     time has passed, and the rotation does not end before.
//
// # Files
//
// A file uses only what files below it declare. From the bottom: a record and what belongs to it
// (record, credential, secrets, marker, target, kind, manager); one record in hand, its commits
// and its journal (edit, exchange, history, alert, census); what several steps share (transitions,
// progress, planning, listing, leaving, truth); the steps of a rotation (create, prove, publish,
// set, retire); writes of published secrets by clients (lineage, judgement, hand, overwrite,
// look); the loop that runs the steps (machine, walk) and access to records (reading, change);
// requests (control, find, orphans, return); what is shown (status, tally).
//
// # Locking
//
// One lock per record is held over a step and over each change by a request; a request waits
// for the call in progress. The lock saves work. What guards is the version that each
// commit asserts, because another server may hold the same record.
package rotate
