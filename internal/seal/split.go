package seal

// RecordKey is the storage key of the seal record, which the barrier does not encrypt.
const RecordKey = "core/seal"
