RELEASE = "new"
