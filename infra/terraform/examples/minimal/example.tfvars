image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/s3reg:1"
domain_name = "registry.example.com"
zone_id     = "Z0123456789ABCDEFGHIJ"
