name        = "sendgrid"
description = "API keys of Twilio SendGrid"
doc         = "https://www.twilio.com/docs/sendgrid/api-reference/api-keys"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's OpenAPI description (tsg_api_keys_v3.json, 2026-01); tested with a scripted server only.
  Not documented: the text of the 403 reply at the limit of keys, so every 403 of create except "access forbidden"
  counts as the limit; and that a key with any scope may read its own scopes.
TEXT

hosts = [param.host]

param "host" {
  description = "api.sendgrid.com, or api.eu.sendgrid.com for subusers in the EU"
  default     = "api.sendgrid.com"
}

# Required, because SendGrid gives full access to a key that is created without scopes.
param "scopes" {
  description = "The permissions of the key, such as [\"mail.send\"]"
  type        = list(string)
}

admin "token" {
  description = "An API key with the scopes api_keys.create, api_keys.read and api_keys.delete"
}

auth "bearer" {
  token = admin.token
}

limits {
  keys = 100
}

# A key that was deleted is accepted for a short time.
settle {
  successes = 3
  interval  = "5s"
  timeout   = "10m"
}

create {
  method = "POST"
  url    = "https://${param.host}/v3/api_keys"
  # param.scopes[0] fails if the list is empty, and the call is then not made.
  json   = { name = marker, scopes = concat([param.scopes[0]], [for i, s in param.scopes : s if i > 0]) }
  retry  = "adopt"

  expect {
    status = [201]
  }
  fail "exhausted" {
    when = response.status == 403 && try(response.json.errors[0].message, "") != "access forbidden"
  }

  id     = response.json.api_key_id
  secret = { api_key = response.json.api_key }

  example = {
    status = 201
    json   = { api_key = "SG.xxxxxxxx.yyyyyyyy", api_key_id = "xxxxxxxx", name = marker, scopes = ["mail.send"] }
  }
}

verify {
  url = "https://${param.host}/v3/scopes"
  auth "bearer" {
    token = key.api_key
  }
  # 403 does not prove that the key is dead.
  rejected = response.status == 401

  example         = { json = { scopes = ["mail.send"] } }
  example_refused = { status = 401, json = { errors = [{ field = null, message = "authorization required" }] } }
}

list {
  url   = "https://${param.host}/v3/api_keys"
  items = response.json.result
  id    = item.api_key_id
  label = item.name

  example = { json = { result = [{ name = marker, api_key_id = key.id }] } }
}

retire {
  method = "DELETE"
  url    = "https://${param.host}/v3/api_keys/${urlencode(key.id)}"

  expect {
    status = [204]
  }
}
