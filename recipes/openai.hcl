name        = "openai"
description = "Project API keys of OpenAI that a service account owns"
doc         = "https://developers.openai.com/api/docs/guides/api-keys"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's OpenAPI description (2026-08) and mirrors of its API reference (2026-11); tested with a
  scripted server only. Not found there: the replies of /v1/models to a dead key and to a key that lacks a permission
  (both from memory), and the reply at a limit of keys.
TEXT

hosts = ["api.openai.com"]

param "project_id" {
  description = "The project of the keys (proj_...)"
}

param "service_account_id" {
  description = "The service account that owns the keys"
}

param "scopes" {
  description = "The permissions of a restricted key, with the one to list models, by which it is tested; empty for all"
  type        = list(string)
  default     = []
}

admin "token" {
  description = "An admin API key (sk-admin-...) that may write the project's API keys"
}

auth "bearer" {
  token = admin.token
}

create {
  method = "POST"
  url    = "https://api.openai.com/v1/organization/projects/${urlencode(param.project_id)}/service_accounts/${urlencode(param.service_account_id)}/api_keys"
  raw    = length(param.scopes) > 0 ? jsonencode({ name = marker, scopes = param.scopes }) : jsonencode({ name = marker })
  retry  = "adopt"

  content_type = "application/json"

  id      = response.json.id
  secret  = { api_key = response.json.value }
  expires = try(fromunix(response.json.expires_at), null)

  example = {
    json = {
      object     = "organization.project.service_account.api_key"
      id         = "key_abc"
      value      = "sk-abcdefghijklmnop123"
      name       = marker
      created_at = 1711471533
      expires_at = null
    }
  }
}

verify {
  url = "https://api.openai.com/v1/models"
  auth "bearer" {
    token = key.api_key
  }
  # A key that lacks a permission is alive.
  rejected = response.status == 401 && length(split("insufficient permissions", response.body)) == 1

  example = { json = { object = "list", data = [] } }
  example_refused = {
    status = 401
    json   = { error = { message = "Incorrect API key provided", type = "invalid_request_error", code = "invalid_api_key" } }
  }
}

list {
  url   = "https://api.openai.com/v1/organization/projects/${urlencode(param.project_id)}/api_keys"
  query = { limit = 100, after = page }
  next  = response.json.has_more ? response.json.last_id : null

  items     = response.json.data
  id        = item.id
  label     = item.name
  created   = fromunix(item.created_at)
  last_used = try(fromunix(item.last_used_at), null)

  example = {
    json = {
      object   = "list"
      has_more = false
      last_id  = key.id
      data = [{
        object       = "organization.project.api_key"
        id           = key.id
        name         = marker
        created_at   = 1711471533
        last_used_at = 1711471534
      }]
    }
  }
}

retire {
  method = "DELETE"
  url    = "https://api.openai.com/v1/organization/projects/${urlencode(param.project_id)}/api_keys/${urlencode(key.id)}"

  expect {
    status = [200]
    when   = response.json.deleted
  }

  example = { json = { object = "organization.project.api_key.deleted", id = key.id, deleted = true } }
}
