# Keys of the demonstration provider that `keyturn demo` starts. It is also the
# recipe to begin a new one from: it uses every part of the two-key style.

name        = "http-demo"
description = "Keys of Keyturn's demonstration provider"
doc         = "keyturn demo -help"
style       = "two-key"
evidence    = "Every call is tested against the provider itself, with failures before and after its effect."

# Nothing but these origins is ever called. A vendor's recipe has names here.
hosts = [param.url]

param "url" {
  description = "Where the provider listens, such as http://127.0.0.1:8300"
}

admin "token" {
  description = "The provider's admin token"
}

auth "bearer" {
  token = admin.token
}

limits {
  label = 255
}

# A call that was cut may still land so long afterwards.
late = "2m"

settle {
  successes = 2
  interval  = "1s"
  timeout   = "2m"
}

create {
  method = "POST"
  url    = "${param.url}/v1/keys"
  json   = { label = marker }
  retry  = "adopt"

  expect {
    status = [201]
  }
  fail "exhausted" {
    when = response.status == 409
  }

  id     = response.json.id
  secret = { api_key = response.json.secret }
  public = { label = response.json.label }

  example = {
    status = 201
    json   = { id = "key_1", secret = "ks_live_example", label = marker, created_at = "2026-03-01T10:00:00Z" }
  }
}

verify {
  url = "${param.url}/v1/whoami"
  auth "bearer" {
    token = key.api_key
  }
  expect {
    status = [200]
    when   = response.json.id == key.id
  }
  example         = { json = { id = key.id, label = marker } }
  example_refused = { status = 401, json = { error = "keyserver: the key is not valid" } }
}

list {
  url   = "${param.url}/v1/keys"
  query = { limit = 50, after = page }
  next  = try(response.json.next, null)

  items     = response.json.keys
  id        = item.id
  label     = item.label
  created   = item.created_at
  last_used = item.last_used_at
  disabled  = item.disabled

  example = {
    json = { keys = [{ id = key.id, label = marker, created_at = "2026-03-01T10:00:00Z", last_used_at = null, disabled = false }] }
  }
}

last_used {
  url   = "${param.url}/v1/keys/${urlencode(key.id)}"
  value = response.json.last_used_at

  example = { json = { id = key.id, last_used_at = "2026-03-01T10:05:00Z" } }
}

disable {
  method = "POST"
  url    = "${param.url}/v1/keys/${urlencode(key.id)}/disable"
}

retire {
  method = "DELETE"
  url    = "${param.url}/v1/keys/${urlencode(key.id)}"
}
