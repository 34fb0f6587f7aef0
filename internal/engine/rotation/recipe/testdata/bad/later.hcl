name        = "later"
description = "only what is not implemented yet"
style       = "two-key"
evidence    = "none"
hosts       = ["example.com"]
auth "sigv4" {}
promote {}
create {
  url    = "https://example.com/keys"
  retry  = "never"
  id     = response.json.id
  secret = { api_key = response.json.key }
}
retire {
  method = "DELETE"
  url    = "https://example.com/keys/${urlencode(key.id)}"
}
