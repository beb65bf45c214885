package agent

// imageMatches reports whether one of the versions is in a semver range.
func imageMatches(want string, have []string) bool {
	return want == "" || want == "*" || len(have) > 0
}
