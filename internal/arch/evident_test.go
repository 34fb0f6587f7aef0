package arch

// evident are messages without a next step, each with the reason. Vault's texts are kept if its
// clients look for them.
var evident = map[string]string{
	"permission denied": "Vault's words, which clients compare; what is allowed is " +
		"no business of who was refused",
	"permission denied: missing client token":                                                     "Vault's words; they say what is missing",
	"no handler for route %q: nothing is mounted there":                                           "Vault's words, by which clients tell an absent mount",
	"permission denied: preflight capability check returned 403: the token may see nothing at %q": "Vault's words, which its command line looks for",
	"wrapping token is not valid or does not exist: it has been unwrapped, has expired, or never was. If you did " +
		"not unwrap it, somebody else may have": "Vault's words in front, and a sentence that tells of a theft",
}

// publicNames look like names of secrets, but are not.
var publicNames = map[string]string{
	"maxToken": "a number of bytes",
	"token":    "a recipe's expression, whose position is printed",
}
