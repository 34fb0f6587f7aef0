name  = "x"
style = "three-key"
