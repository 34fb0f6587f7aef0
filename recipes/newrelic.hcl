name        = "newrelic"
description = "User keys of New Relic"
doc         = "https://docs.newrelic.com/docs/apis/nerdgraph/examples/use-nerdgraph-manage-license-keys-user-keys/"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's Go client (pkg/apiaccess, 2026-08) and NerdGraph tutorial; tested with a scripted server
  only. Not documented: whether a dead key gets the status 401 or the error code BAD_API_KEY with status 200 (the
  vendor's client expects either), the longest name of a key, and the reply at a limit of keys.
TEXT

hosts = [param.host]

param "host" {
  description = "api.newrelic.com, or api.eu.newrelic.com for accounts in the EU"
  default     = "api.newrelic.com"
}

param "account_id" {
  description = "The account of the keys"
  type        = number
}

param "user_id" {
  description = "The user that the keys act for"
  type        = number
}

admin "token" {
  description = "A user key of this user that is not rotated, or one of a user who may manage the keys of others"
}

auth "header" {
  headers = { API-Key = admin.token }
}

create {
  method = "POST"
  url    = "https://${param.host}/graphql"
  graphql {
    query     = <<-TEXT
      mutation($keys: ApiAccessCreateInput!) {
        apiAccessCreateKeys(keys: $keys) {
          createdKeys { id key name }
          errors { message type ... on ApiAccessUserKeyError { userErrorType: errorType } }
        }
      }
TEXT
    variables = { keys = { user = [{ accountId = param.account_id, userId = param.user_id, name = marker }] } }
  }
  retry = "adopt"

  # NerdGraph answers 200 to calls that fail. A reply that neither creates nor refuses proves nothing.
  expect {
    status = [200]
    when   = length(response.json.data.apiAccessCreateKeys.createdKeys) == 1
  }
  fail "permanent" {
    when = response.status == 200 && try(length(response.json.data.apiAccessCreateKeys.errors) > 0, false)
  }
  fail "permanent" {
    when = try(response.json.errors[0].extensions.errorCode, "") == "BAD_API_KEY"
  }

  id     = response.json.data.apiAccessCreateKeys.createdKeys[0].id
  secret = { api_key = response.json.data.apiAccessCreateKeys.createdKeys[0].key }

  example = {
    json = {
      data = { apiAccessCreateKeys = { createdKeys = [{ id = "A1B2C3", key = "NRAK-EXAMPLE", name = marker }], errors = [] } }
    }
  }
}

verify {
  method = "POST"
  url    = "https://${param.host}/graphql"
  graphql {
    query = "{ actor { user { id } } }"
  }
  auth "header" {
    headers = { API-Key = key.api_key }
  }
  expect {
    status = [200]
    when   = tonumber(response.json.data.actor.user.id) == param.user_id
  }
  rejected = response.status == 401 || try(response.json.errors[0].extensions.errorCode, "") == "BAD_API_KEY"
  fail "transient" {
    when = try(contains(["TIMEOUT", "INTERNAL_SERVER_ERROR", "SERVER_ERROR"], response.json.errors[0].extensions.errorClass), false)
  }

  example = { json = { data = { actor = { user = { id = param.user_id } } } } }
  example_refused = {
    status = 401
    json   = { errors = [{ message = "Invalid API key", extensions = { errorCode = "BAD_API_KEY" } }] }
  }
}

list {
  method = "POST"
  url    = "https://${param.host}/graphql"
  graphql {
    query     = <<-TEXT
      query($query: ApiAccessKeySearchQuery!, $cursor: String) {
        actor { apiAccess { keySearch(query: $query, cursor: $cursor) { nextCursor keys { id name createdAt } } } }
      }
TEXT
    variables = {
      cursor = page
      query  = { types = ["USER"], scope = { accountIds = [param.account_id], userIds = [param.user_id] } }
    }
  }
  expect {
    status = [200]
    when   = length(try(response.json.errors, [])) == 0
  }
  fail "transient" {
    when = try(contains(["TIMEOUT", "INTERNAL_SERVER_ERROR", "SERVER_ERROR"], response.json.errors[0].extensions.errorClass), false)
  }
  next = response.json.data.actor.apiAccess.keySearch.nextCursor

  items   = response.json.data.actor.apiAccess.keySearch.keys
  id      = item.id
  label   = item.name
  created = fromunix(item.createdAt)

  example = {
    json = {
      data = { actor = { apiAccess = { keySearch = { nextCursor = null, keys = [{ id = key.id, name = marker, createdAt = 1772359200 }] } } } }
    }
  }
}

retire {
  method = "POST"
  url    = "https://${param.host}/graphql"
  graphql {
    query     = <<-TEXT
      mutation($keys: ApiAccessDeleteInput!) {
        apiAccessDeleteKeys(keys: $keys) {
          deletedKeys { id }
          errors { message type ... on ApiAccessUserKeyError { userErrorType: errorType } }
        }
      }
TEXT
    variables = { keys = { userKeyIds = [key.id] } }
  }
  expect {
    status = [200]
    when   = response.json.data.apiAccessDeleteKeys.deletedKeys[0].id == key.id
  }
  absent = try(response.json.data.apiAccessDeleteKeys.errors[0].userErrorType, "") == "NOT_FOUND"
  fail "permanent" {
    when = response.status == 200 && try(length(response.json.data.apiAccessDeleteKeys.errors) > 0, false)
  }
  fail "permanent" {
    when = try(response.json.errors[0].extensions.errorCode, "") == "BAD_API_KEY"
  }

  example = { json = { data = { apiAccessDeleteKeys = { deletedKeys = [{ id = key.id }], errors = [] } } } }
}
