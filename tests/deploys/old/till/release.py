RELEASE = "old"
