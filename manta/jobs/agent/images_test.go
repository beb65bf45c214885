package agent

import "testing"

func TestImageMatches(t *testing.T) {
	have := []string{"13.3.6", "16.1.0"}
	for want, ok := range map[string]bool{
		"": true, "*": true, "x": true, "16.1.0": true, "16.1.1": false, "v16.1.0": true, "=16.1.0": true, "16": true, "16.x": true, "16.1.x": true, "17": false,
		">=16": true, "> 16": false, ">16.0": true, ">16.1": false, "<14": true, "<13": false, "<= 13.3": true, "<=13.2": false, "~13.3.1": true, "~13.2": false, "~13": true,
		"^13.1.0": true, "^13.4": false, "^15.0.0": false, ">=13.4 <16": false, ">=13.4 <17": true, "12 - 14": true, "14 - 15": false, "15 || 16": true,
		"14 || 15": false, "latest": false, "13.3.6-beta": true, "~>13.3": true, ">>1": false, "1.2.3.4": false,
	} {
		if got := imageMatches(want, have); got != ok {
			t.Errorf("%q: %v", want, got)
		}
	}
	if !imageMatches("^0.2.1", []string{"0.2.9"}) || imageMatches("^0.2.1", []string{"0.3.0"}) || imageMatches("^0.0.3", []string{"0.0.4"}) {
		t.Error("^ below 1")
	}
}

func FuzzImageMatches(f *testing.F) {
	for _, s := range []string{"", "1.2.x || >=2 <3", "1 - 2", "^0.0.1", "~1", "> 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { imageMatches(s, []string{"1.0.0"}) })
}
