name        = "atlas"
description = "API keys of a MongoDB Atlas organization: pairs of a public and a private key"
doc         = "https://www.mongodb.com/docs/api/doc/atlas-admin-api-v2/group/endpoint-programmatic-api-keys"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's Go SDK (2026-08) and documentation; tested with a scripted server only. From memory: that
  every key may read its organization, and that an address that is not in a key's access list gets 403. Not documented:
  the reply at the limit of keys.
TEXT

hosts = ["cloud.mongodb.com"]

param "org_id" {
  description = "The organization of the keys"
}

param "roles" {
  description = "The roles of the key in the organization, such as [\"ORG_READ_ONLY\"]"
  type        = list(string)
}

admin "public_key" {
  description = "The public key of an API key with the role Organization User Admin"
  secret      = false
}

admin "private_key" {
  description = "The private key of the same API key"
}

auth "digest" {
  username = admin.public_key
  password = admin.private_key
}

limits {
  label = 250
}

settle {
  successes = 3
  interval  = "5s"
  timeout   = "10m"
}

create {
  method  = "POST"
  url     = "https://cloud.mongodb.com/api/atlas/v2/orgs/${urlencode(param.org_id)}/apiKeys"
  headers = { Accept = "application/vnd.atlas.2023-01-01+json" }
  json    = { desc = marker, roles = param.roles }
  retry   = "adopt"

  content_type = "application/vnd.atlas.2023-01-01+json"

  id     = response.json.id
  secret = { private_key = response.json.privateKey }
  public = { public_key = response.json.publicKey }

  example = {
    json = {
      id         = "32b6e34b3d91647abb20e7b8"
      desc       = marker
      publicKey  = "abcdefgh"
      privateKey = "55c3bbb6-b4bb-0be1-e66d20841f3e"
      roles      = [{ orgId = "32b6e34b3d91647abb20e7b8", roleName = "ORG_READ_ONLY" }]
    }
  }
}

verify {
  url     = "https://cloud.mongodb.com/api/atlas/v2/orgs/${urlencode(param.org_id)}"
  headers = { Accept = "application/vnd.atlas.2023-01-01+json" }
  auth "digest" {
    username = key.public_key
    password = key.private_key
  }
  # 403 does not prove that the key is dead: its access list may lack this server's address.
  rejected = response.status == 401

  example         = { json = { id = param.org_id, name = "example" } }
  example_refused = { status = 401, json = { error = 401, reason = "Unauthorized", detail = "You are not authorized for this resource." } }
}

list {
  url     = "https://cloud.mongodb.com/api/atlas/v2/orgs/${urlencode(param.org_id)}/apiKeys"
  query   = { itemsPerPage = 100, pageNum = coalesce(page, 1) }
  headers = { Accept = "application/vnd.atlas.2023-01-01+json" }
  next    = length(response.json.results) < 100 ? null : tonumber(coalesce(page, 1)) + 1

  items = response.json.results
  id    = item.id
  label = item.desc

  example = { json = { results = [{ id = key.id, desc = marker, publicKey = "abcdefgh" }], totalCount = 1 } }
}

retire {
  method  = "DELETE"
  url     = "https://cloud.mongodb.com/api/atlas/v2/orgs/${urlencode(param.org_id)}/apiKeys/${urlencode(key.id)}"
  headers = { Accept = "application/vnd.atlas.2023-01-01+json" }

  expect {
    status = [200, 204]
  }
}
