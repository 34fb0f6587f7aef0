name        = "gcp-api-key"
description = "API keys of a Google Cloud project (API Keys API)"
doc         = "https://cloud.google.com/api-keys/docs/create-manage-api-keys"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's documentation (API Keys API v2); tested with a scripted server only. That the ended
  operation holds the key string is from published transcripts of the API; the reference does not promise it. If it does
  not, the new key is deleted and the rotation stops. From memory: the reply to a dead key. The admin credential is an
  OAuth access token, which expires within hours and which this recipe cannot renew.
TEXT

hosts = ["apikeys.googleapis.com", "${param.service}.googleapis.com"]

param "project" {
  description = "The number or ID of the project"
}

param "service" {
  description = "The only API that the key may call, by which it is tested, without .googleapis.com, such as translation"
}

param "test_path" {
  description = "A path of the service that a GET request with the key may read, such as language/translate/v2/languages"
}

admin "token" {
  description = "An OAuth access token of an identity with the role API Keys Admin (roles/serviceusage.apiKeysAdmin)"
}

auth "bearer" {
  token = admin.token
}

limits {
  keys  = 300
  label = 63
}

# A new key works, and a deleted key is refused, after some minutes.
settle {
  successes = 5
  interval  = "10s"
  timeout   = "30m"
}

create {
  method = "POST"
  url    = "https://apikeys.googleapis.com/v2/projects/${urlencode(param.project)}/locations/global/keys"
  json   = { displayName = marker, restrictions = { apiTargets = [{ service = "${param.service}.googleapis.com" }] } }
  retry  = "adopt"

  expect {
    status = [200]
    when   = response.json.name != ""
  }

  poll {
    url      = "https://apikeys.googleapis.com/v2/operations/${urlencode(trimprefix(created.json.name, "operations/"))}"
    until    = try(response.json.done, false)
    interval = "2s"
    within   = "2m"

    # An operation that failed has ended without a key.
    expect {
      status = [200]
      when   = try(response.json.error, null) == null
    }
    fail "exhausted" {
      when = try(response.json.error.code, 0) == 8
    }
    # Other errors, such as INTERNAL, do not prove that there is no key: it is then looked for by its label.
    fail "permanent" {
      when = contains([3, 5, 7, 9, 16], try(response.json.error.code, 0))
    }

    example = {
      json = {
        name = "operations/akmf.p7-103621867718-06f94db2"
        done = true
        response = {
          "@type"     = "type.googleapis.com/google.api.apikeys.v2.Key"
          name        = "projects/103621867718/locations/global/keys/aecd7943-98ff-4ce2-a876-ec1b37c671ca"
          displayName = marker
          keyString   = "AIzaEXAMPLE"
          uid         = "aecd7943-98ff-4ce2-a876-ec1b37c671ca"
        }
      }
    }
  }

  id     = response.json.response.uid
  secret = { api_key = response.json.response.keyString }

  example = { json = { name = "operations/akmf.p7-103621867718-06f94db2" } }
}

verify {
  url     = "https://${param.service}.googleapis.com/${param.test_path}"
  headers = { X-Goog-Api-Key = key.api_key }
  auth "none" {}
  # A dead key gets 400 with the reason API_KEY_INVALID. Another refusal does not prove that the key is dead.
  rejected = response.status == 400 && length(split("API_KEY_INVALID", response.body)) > 1

  example = { json = {} }
  example_refused = {
    status = 400
    json   = { error = { code = 400, status = "INVALID_ARGUMENT", details = [{ reason = "API_KEY_INVALID" }] } }
  }
}

list {
  url   = "https://apikeys.googleapis.com/v2/projects/${urlencode(param.project)}/locations/global/keys"
  query = { pageSize = 300, pageToken = page }
  next  = try(response.json.nextPageToken, null)

  items   = try(response.json.keys, [])
  id      = item.uid
  label   = try(item.displayName, "")
  created = item.createTime

  example = { json = { keys = [{ uid = key.id, displayName = marker, createTime = "2026-03-01T10:00:00Z" }] } }
}

retire {
  method = "DELETE"
  url    = "https://apikeys.googleapis.com/v2/projects/${urlencode(param.project)}/locations/global/keys/${urlencode(key.id)}"

  expect {
    status = [200]
  }

  example = { json = { name = "operations/akmf.p7-103621867718-delete" } }
}
