plugin "terraform" {
  enabled = true
  preset  = "all"
}

# One module, many files: outputs stand in outputs.tf, variables in variables.tf, but an example is one page.
rule "terraform_standard_module_structure" {
  enabled = false
}
