name  = "auth-token"
style = "promote"
promote {
  url = "https://example.com"
}
