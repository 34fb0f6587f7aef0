name        = "unbounded"
description = "what could cost too much"
style       = "two-key"
evidence    = "none"
hosts       = ["example.com"]
auth "none" {}
create {
  url    = "https://example.com/keys"
  retry  = "never"
  id     = "${response.json.id * 10}"
  secret = {
    a = join("", [for x in response.json.list : response.body])
    b = "${1e99999}"
    c = jsonencode([for x in response.json : [for y in x : [for z in y : z]]])
    d = "${-response.json.x}"
    e = jsonencode([for x in response.json : x.a if response.json.b])
  }
}
retire {
  method = "DELETE"
  url    = "https://example.com/keys/${urlencode(key.id)}"
}
