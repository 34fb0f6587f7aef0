name = "x"
style = "two-key
create {
