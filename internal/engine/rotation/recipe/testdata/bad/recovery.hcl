name        = "recovery"
description = "what is wrong only as a whole"
style       = "two-key"
evidence    = "none"
hosts       = ["example.com"]
auth "none" {}
create {
  url    = "https://example.com/keys"
  retry  = "safe"
  id     = response.json.id
  secret = { api_key = response.json.key }
  public = { api_key = response.json.key }
}
verify {
  url = "https://example.com/me"
  auth "none" {}
}
list {
  url   = "https://example.com/keys"
  items = response.json.keys
  next  = response.json.next
  id    = item.id
  label = item.label
}
retire {
  method = "DELETE"
  url    = "https://example.com/keys/${key.id}"
}
