variable "name" {
  description = "Name of the key under rotation."
  type        = string
  default     = "stripe"
}

variable "recipe" {
  description = "The recipe that makes, tries and retires keys at the provider."
  type        = string
  default     = "http-demo"
}

variable "params" {
  description = "What the recipe wants to know, without secrets."
  type        = map(string)
  default     = { url = "http://127.0.0.1:8300" }
}

variable "admin" {
  description = "The credentials by which keys are made and retired."
  type        = map(string)
  sensitive   = true
}

variable "secret" {
  description = "Path of the secret below static/."
  type        = string
  default     = "stripe/production"
}

variable "rotation_period" {
  description = "Seconds between two rotations: 30 days for keys of payments, 60 for most, 90 for keys of little risk."
  type        = number
  default     = 2592000
}

variable "grace_period" {
  description = "Seconds for which the key before lives on."
  type        = number
  default     = 172800
}
