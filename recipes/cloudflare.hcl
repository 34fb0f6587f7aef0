name        = "cloudflare"
description = "API tokens of a Cloudflare account or user, with the policies of the present token"
doc         = "https://developers.cloudflare.com/fundamentals/api/how-to/create-via-api/"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's Go client (v6, 2026-01) and documentation; tested with a scripted server only. From memory:
  the error codes 1000 (invalid token) and 9109 (address not allowed). Not documented: the reply at the limit of tokens.
TEXT

hosts = ["api.cloudflare.com"]

param "account_id" {
  description = "The account that owns the tokens; empty for tokens of the user"
  default     = ""
}

param "template_id" {
  description = "The ID of a token whose policies every new token gets; empty for the token that is replaced"
  default     = ""
}

param "lifetime" {
  description = "How long a new token is valid, such as 2160h; empty for a token that does not expire"
  default     = ""
}

admin "token" {
  description = "A token with the permission to edit API tokens of the account or the user"
}

auth "bearer" {
  token = admin.token
}

limits {
  label = 120
}

create {
  # The permissions of a token are IDs that only Cloudflare knows, so they are copied.
  read {
    url = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens/${urlencode(param.template_id != "" ? param.template_id : current.id)}"
    expect {
      status = [200]
      when   = response.json.success && length(response.json.result.policies) > 0
    }
    value = {
      condition = try(response.json.result.condition, null)
      policies  = [for p in response.json.result.policies : { effect = p.effect, resources = p.resources, permission_groups = [for g in p.permission_groups : { id = g.id }] }]
    }

    example = {
      json = {
        success = true
        result = {
          id     = "ed17574386854bf78a67040be0a770b0"
          status = "active"
          policies = [{
            id                = "f267e341f3dd4697bd3b9f71dd96247f"
            effect            = "allow"
            resources         = { "com.cloudflare.api.account.zone.eb78d65290b24279ba6f44721b3ea3c4" = "*" }
            permission_groups = [{ id = "c8fed203ed3043cba015a93ad1616f1f", name = "Zone Read" }]
          }]
        }
      }
    }
  }

  method = "POST"
  url    = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens"
  json = {
    for name, v in {
      name       = marker
      policies   = read.policies
      condition  = read.condition
      expires_on = param.lifetime != "" ? timeadd(now, param.lifetime) : null
    } : name => v if v != null
  }
  retry = "adopt"

  expect {
    status = [200]
    when   = response.json.success
  }

  id      = response.json.result.id
  secret  = { api_token = response.json.result.value }
  expires = try(response.json.result.expires_on, null)

  example = {
    json = {
      success = true
      errors  = []
      result  = { id = "f174e90afafe4643bbbc4a0ed4fc8415", name = marker, status = "active", value = "8M7wS6hCpXVc-DoRnPPY_UCWPgy8aea4Wy6kCe5T" }
    }
  }
}

verify {
  url = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens/verify"
  auth "bearer" {
    token = key.api_token
  }
  expect {
    status = [200]
    when   = response.json.result.status == "active" && response.json.result.id == key.id
  }
  # A token that this server's address may not use is alive.
  rejected = response.status == 401 && try(response.json.errors[0].code, 0) != 9109 || contains(["disabled", "expired"], try(response.json.result.status, ""))

  example         = { json = { success = true, result = { id = key.id, status = "active" } } }
  example_refused = { status = 401, json = { success = false, errors = [{ code = 1000, message = "Invalid API Token" }], result = null } }
}

list {
  url   = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens"
  query = { per_page = 50, page = coalesce(page, 1) }
  next  = length(response.json.result) < 50 ? null : tonumber(coalesce(page, 1)) + 1
  expect {
    status = [200]
    when   = response.json.success
  }

  items     = response.json.result
  id        = item.id
  label     = item.name
  created   = try(item.issued_on, null)
  last_used = try(item.last_used_on, null)
  disabled  = try(item.status, "") == "disabled"

  example = {
    json = {
      success = true
      result  = [{ id = key.id, name = marker, status = "active", issued_on = "2026-03-01T10:00:00Z", last_used_on = "2026-03-01T10:05:00Z" }]
    }
  }
}

disable {
  read {
    url = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens/${urlencode(key.id)}"
    expect {
      status = [200]
      when   = response.json.success
    }
    value = {
      name       = response.json.result.name
      policies   = response.json.result.policies
      condition  = try(response.json.result.condition, null)
      not_before = try(response.json.result.not_before, null)
      expires_on = try(response.json.result.expires_on, null)
    }

    example = { json = { success = true, result = { id = key.id, name = marker, status = "active", policies = [] } } }
  }

  method = "PUT"
  url    = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens/${urlencode(key.id)}"
  json = {
    for name, v in {
      name       = read.name
      policies   = read.policies
      condition  = read.condition
      not_before = read.not_before
      expires_on = read.expires_on
      status     = "disabled"
    } : name => v if v != null
  }
  expect {
    status = [200]
    when   = response.json.success
  }

  example = { json = { success = true, result = { id = key.id, status = "disabled" } } }
}

retire {
  method = "DELETE"
  url    = "https://api.cloudflare.com/client/v4/${param.account_id != "" ? "accounts/${param.account_id}" : "user"}/tokens/${urlencode(key.id)}"
  expect {
    status = [200]
    when   = response.json.success
  }

  example = { json = { success = true, result = { id = key.id } } }
}
