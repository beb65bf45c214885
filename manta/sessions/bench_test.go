package sessions

import "testing"

// BenchmarkKeystroke is the way of a key to the task and of its echo back, by one front door or through a second one.
func BenchmarkKeystroke(b *testing.B) {
	for _, doors := range []string{"one", "two"} {
		b.Run(doors, func(b *testing.B) {
			w := newWorld(b)
			j := w.job()
			master := w.attach(w.URL, j.ID, "master")
			url := w.URL
			if doors == "two" {
				url = w.urlTwo
			}
			slave := w.attach(url, j.ID, "slave")
			w.expect(slave, txt, linkupMessage)
			w.expect(master, txt, linkupMessage)
			for b.Loop() {
				w.send(master, bin, "x")
				w.expect(slave, bin, "x")
				w.send(slave, bin, "x")
				w.expect(master, bin, "x")
			}
		})
	}
}

// BenchmarkOutput is how fast a task's output gets to the terminal.
func BenchmarkOutput(b *testing.B) {
	w := newWorld(b)
	j := w.job()
	master := w.attach(w.URL, j.ID, "master")
	slave := w.attach(w.URL, j.ID, "slave")
	w.expect(slave, txt, linkupMessage)
	w.expect(master, txt, linkupMessage)
	block := make([]byte, 32<<10)
	b.SetBytes(int64(len(block)))
	go func() {
		for {
			if _, _, err := master.Read(b.Context()); err != nil {
				return // with the benchmark
			}
		}
	}()
	for b.Loop() {
		if err := slave.Write(b.Context(), bin, block); err != nil {
			b.Fatal(err)
		}
	}
}
