variable "name" {
  description = "Name of the key under rotation."
  type        = string
  default     = "stripe"
}

variable "recipe" {
  description = "The recipe that creates, verifies and retires keys at the provider."
  type        = string
  default     = "http-demo"
}

variable "params" {
  description = "The recipe's parameters, without secrets."
  type        = map(string)
  default     = { url = "http://127.0.0.1:8300" }
}

variable "admin" {
  description = "The admin credentials that create and retire keys."
  type        = map(string)
  sensitive   = true
}

variable "secret" {
  description = "Path of the secret below static/."
  type        = string
  default     = "stripe/production"
}

variable "rotation_period" {
  description = "Seconds between two rotations: 30 days for payment keys, 60 for most keys, 90 for keys of little risk."
  type        = number
  default     = 2592000
}

variable "grace_period" {
  description = "Seconds for which the old key stays valid after a rotation."
  type        = number
  default     = 172800
}
