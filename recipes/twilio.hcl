name        = "twilio"
description = "API keys of Twilio (SK...): pairs of a SID and a secret"
doc         = "https://www.twilio.com/docs/iam/api-keys"
style       = "two-key"
evidence    = <<-TEXT
  Written from the vendor's OpenAPI description (twilio_iam_v1.json, 2026-04); tested with a scripted server only.
  Not found there: the reply to a dead key (error code 20003 is from memory), and the reply at a limit of keys.
TEXT

hosts = ["iam.twilio.com", "api.twilio.com"]

param "account_sid" {
  description = "The account that owns the keys (AC...)"
}

param "allow" {
  description = "The permissions of a restricted key, with /twilio/messaging/messages/read, by which it is tested; empty for a standard key"
  type        = list(string)
  default     = []
}

admin "username" {
  description = "The account SID, or the SID of a main API key"
  secret      = false
}

admin "password" {
  description = "The account's auth token, or the secret of the main API key"
}

auth "basic" {
  username = admin.username
  password = admin.password
}

limits {
  label = 64
}

create {
  method = "POST"
  url    = "https://iam.twilio.com/v1/Keys"
  form = {
    AccountSid   = param.account_sid
    FriendlyName = marker
    KeyType      = length(param.allow) > 0 ? "restricted" : null
    Policy       = length(param.allow) > 0 ? jsonencode({ allow = param.allow }) : null
  }
  retry = "adopt"

  expect {
    status = [201]
  }

  id     = response.json.sid
  secret = { secret = response.json.secret }
  public = { sid = response.json.sid }

  example = {
    status = 201
    json = {
      sid           = "SKaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      friendly_name = marker
      date_created  = "Mon, 13 Jun 2016 22:50:08 +0000"
      date_updated  = "Mon, 13 Jun 2016 22:50:08 +0000"
      secret        = "foobar"
      policy        = null
    }
  }
}

verify {
  url   = "https://api.twilio.com/2010-04-01/Accounts/${urlencode(param.account_sid)}/Messages.json"
  query = { PageSize = 1 }
  auth "basic" {
    username = key.sid
    password = key.secret
  }
  # Another code, or 403, does not prove that the key is dead: it may lack the permission to read messages.
  rejected = response.status == 401 && try(response.json.code, 0) == 20003

  example         = { json = { messages = [], page = 0, page_size = 1 } }
  example_refused = { status = 401, json = { code = 20003, message = "Authenticate", status = 401 } }
}

list {
  url   = coalesce(page, "https://iam.twilio.com/v1/Keys?AccountSid=${urlencode(param.account_sid)}&PageSize=1000")
  next  = response.json.meta.next_page_url
  items = response.json.keys
  id    = item.sid
  label = item.friendly_name

  example = {
    json = {
      keys = [{ sid = key.id, friendly_name = marker, date_created = "Mon, 13 Jun 2016 22:50:08 +0000" }]
      meta = { page = 0, page_size = 1000, next_page_url = null, key = "keys" }
    }
  }
}

retire {
  method = "DELETE"
  url    = "https://iam.twilio.com/v1/Keys/${urlencode(key.id)}"

  expect {
    status = [204]
  }
}
