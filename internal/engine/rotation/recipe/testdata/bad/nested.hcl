name        = "nested"
description = "blocks in calls that are wrong"
style       = "two-key"
evidence    = "none"
hosts       = ["example.com"]
create {
  read {
    url = "https://elsewhere.example.com/keys/${current.id}"
  }
  poll {
    url      = "https://example.com/operation"
    interval = "1m"
    within   = "30s"
    fail "rejected" {
      when = response.status == 200
    }
  }
  poll {
    url   = "https://example.com/operation/${created.json.id}"
    until = true
  }
  url    = "https://example.com/keys"
  retry  = "never"
  id     = response.json.id
  secret = { api_key = created.json.key }
}
verify {
  read {
    url   = "https://example.com"
    value = 1
  }
  url = "https://example.com/me"
  auth "digest" {
    username = key.id
  }
}
retire {
  read {
    url   = "https://example.com/keys/${urlencode(key.id)}"
    value = [for k in [1, 2] : response.json]
  }
  poll {
    url   = "https://example.com"
    until = true
  }
  method = "DELETE"
  url    = "https://example.com/keys/${urlencode(read.id)}"
}
