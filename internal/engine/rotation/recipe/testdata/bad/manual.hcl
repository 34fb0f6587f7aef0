name = "manual"
style = "manual"
description = "d"
evidence = "e"
hosts = ["api.example.com"]
slots = ["one", "two"]
create {
  url = "https://api.example.com"
}
supply {
  secret = ["id", "a", "a", 7]
  public = "b"
}
