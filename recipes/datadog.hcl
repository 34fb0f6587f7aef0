name        = "datadog"
description = "API keys of Datadog"
doc         = "https://docs.datadoghq.com/api/latest/key-management/"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's Go client (2026-08) and API reference; tested with a scripted server only. Not documented:
  the reply at the organization's limit of keys, and the longest name of a key.
TEXT

hosts = ["api.${param.site}"]

param "site" {
  description = "The Datadog site, such as datadoghq.com, datadoghq.eu, us3.datadoghq.com or ddog-gov.com"
  default     = "datadoghq.com"
}

admin "api_key" {
  description = "An API key of the organization that is not rotated"
}

admin "application_key" {
  description = "An application key with the scopes api_keys_read, api_keys_write and api_keys_delete"
}

auth "header" {
  headers = { DD-API-KEY = admin.api_key, DD-APPLICATION-KEY = admin.application_key }
}

settle {
  successes = 3
  interval  = "5s"
  timeout   = "10m"
}

create {
  method = "POST"
  url    = "https://api.${param.site}/api/v2/api_keys"
  json   = { data = { type = "api_keys", attributes = { name = marker } } }
  retry  = "adopt"

  expect {
    status = [201]
  }

  id     = response.json.data.id
  secret = { api_key = response.json.data.attributes.key }

  example = {
    status = 201
    json = {
      data = {
        type = "api_keys"
        id   = "b1a2c3d4-0000-4000-8000-000000000000"
        attributes = {
          name       = marker
          key        = "0123456789abcdef0123456789abcdef"
          last4      = "cdef"
          created_at = "2026-03-01T10:00:00Z"
        }
      }
    }
  }
}

verify {
  url = "https://api.${param.site}/api/v1/validate"
  auth "header" {
    headers = { DD-API-KEY = key.api_key }
  }
  expect {
    status = [200]
    when   = response.json.valid
  }
  rejected = response.status == 403 || try(response.json.valid, true) == false

  example         = { json = { valid = true } }
  example_refused = { status = 403, json = { errors = ["Forbidden"] } }
}

list {
  url   = "https://api.${param.site}/api/v2/api_keys"
  query = { "page[size]" = 100, "page[number]" = coalesce(page, 0) }
  next  = length(response.json.data) < 100 ? null : tonumber(coalesce(page, 0)) + 1

  items     = response.json.data
  id        = item.id
  label     = item.attributes.name
  created   = item.attributes.created_at
  last_used = try(item.attributes.date_last_used, null)

  example = {
    json = {
      data = [{
        type = "api_keys"
        id   = key.id
        attributes = {
          name           = marker
          last4          = "cdef"
          created_at     = "2026-03-01T10:00:00Z"
          date_last_used = "2026-03-01T10:05:00Z"
        }
      }]
    }
  }
}

retire {
  method = "DELETE"
  url    = "https://api.${param.site}/api/v2/api_keys/${urlencode(key.id)}"

  expect {
    status = [204]
  }
}
