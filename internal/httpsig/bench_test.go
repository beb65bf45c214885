package httpsig

import "testing"

func BenchmarkParseAndText(b *testing.B) {
	v := readVectors(b)
	r := vectorRequest()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		s, err := Parse(v.Requests[0].Authorization)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.AppendText(buf, r); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Check(r, vectorTime, DefaultSkew); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := readVectors(b)
	text := []byte("date: " + vectorDate)
	for _, k := range v.Keys {
		p := v.key(b, k.Name)
		s := k.Signatures[len(k.Signatures)-1]
		b.Run(k.Name, func(b *testing.B) {
			for b.Loop() {
				if !p.Verify(s.Algorithm, text, s.Signature) {
					b.Fatal("does not verify")
				}
			}
		})
	}
}
