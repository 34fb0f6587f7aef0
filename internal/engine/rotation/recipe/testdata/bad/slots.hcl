name = "slots"
style = "slots"
description = "d"
evidence = "e"
hosts = ["api.example.com"]
slots = ["one#", "two"]
supply {}
list {
  url = "https://api.example.com"
  items = response.json
  id = item.id
}
create {
  url = "https://api.example.com"
  id = "x"
  retry = "safe"
  secret = { api_key = response.json.key }
}
retire {
  method = "DELETE"
  url = "https://api.example.com/${urlencode(key.id)}"
}
