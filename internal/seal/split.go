package seal

// RecordKey is where core keeps the seal record, not encrypted by the barrier.
const RecordKey = "core/seal"
