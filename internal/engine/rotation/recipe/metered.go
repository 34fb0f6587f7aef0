package recipe

// metered is the panic value with which a meter ends an evaluation. An error would not end it,
// because HCL continues a loop whose body has failed.
type metered struct{ err error }
