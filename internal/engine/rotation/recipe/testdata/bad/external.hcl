name        = "x"
description = "x"
style       = "external"
evidence    = "none"
hosts       = ["api.example.com"]
admin "token" { description = "the admin" }
create {
  url = "https://api.example.com/keys"
}
verify {
  url   = "https://api.example.com/whoami"
  proof = "management"
  auth "bearer" {
    token = key.id
  }
}
