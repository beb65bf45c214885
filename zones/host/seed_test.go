//go:build linux

package host

import "testing"

// TestSeed checks that what a new zone's tree gets is the zone's own, whether it is written at its first start or before.
func TestSeed(t *testing.T) {
	o := newLab(t, lab{}).must(t)
	for _, extra := range []string{"", `"autoboot":false`} {
		z, err := o.Create(t.Context(), spec(t, extra))
		if err != nil {
			t.Fatal(err)
		}
		if extra != "" {
			if err := o.Start(t.Context(), z.UUID, StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if out := o.sh(t, z.UUID, "stat -c '%u:%g %a' /etc/hosts; cat /etc/hostname"); out != "0:0 644\n"+z.UUID {
			t.Errorf("%s: a new zone has %q", extra, out)
		}
	}
}
