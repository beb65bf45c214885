package tools

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// keyProgram runs in node: it reads lines, each as a JSON string, and writes for each its key likewise, or {"error": …} and ends.
const keyProgram = `
'use strict';
const [code, asJSON, numbers] = [process.argv[1], process.argv[2] === 'true', process.argv[3] === 'true'];
let fn;
function out(v) { process.stdout.write(JSON.stringify(v) + '\n'); }
function stop(message) { out({error: String(message)}); process.exitCode = 1; throw 0; }
function key(line) {
  let self = {line: line};
  if (asJSON) {
    self = null;
    if (line !== '') {
      try { self = JSON.parse(line); } catch (e) { stop('error: input is not json: ' + line); }
    }
  }
  const k = fn.call(self, line);
  if (typeof k !== 'string' && !(numbers && typeof k === 'number')) {
    stop(k + ' must be ' + (numbers ? 'a string or a number' : 'a string') + ', but was of type ' + typeof k);
  }
  return String(k);
}
try {
  fn = new Function('line', code);
} catch (e) { out({error: String(e)}); process.exit(1); }
process.stdout.on('error', () => process.exit(1));
let rest = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (text) => {
  const parts = (rest + text).split('\n');
  rest = parts.pop();
  let keys = '';
  try {
    for (const part of parts) { keys += JSON.stringify(key(JSON.parse(part))) + '\n'; }
  } catch (e) {
    process.stdout.write(keys);
    if (e !== 0) { out({error: String(e)}); process.exitCode = 1; }
    process.stdin.destroy();
    return;
  }
  if (keys && !process.stdout.write(keys)) {
    process.stdin.pause();
    process.stdout.once('drain', () => process.stdin.resume());
  }
});
`

// function makes a function's body of -e, which may be a mere expression.
func functionBody(code string) string {
	if strings.Contains(code, "return") {
		return code
	}
	return "return (" + strings.TrimSuffix(code, ";") + ")"
}

// scripted yields the lines of the input with keys that a JavaScript function computes, in a node beside this program.
func (p *process) scripted(code string, s *splitter) (keyedLines, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("-e is JavaScript and needs node, which is not here; -f and -j do without")
	}
	return func(yield func(keyedLine, error) bool) {
		cmd := exec.CommandContext(p.ctx, node, "-e", keyProgram, functionBody(code), fmt.Sprint(s.json), fmt.Sprint(s.direct))
		cmd.Stderr = p.stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			yield(keyedLine{}, err)
			return
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			yield(keyedLine{}, err)
			return
		}
		if err := cmd.Start(); err != nil {
			yield(keyedLine{}, err)
			return
		}
		done := make(chan struct{})
		ahead := make(chan string, 4096) // lines whose keys are awaited
		readErr := make(chan error, 1)
		go func() { readErr <- feed(in, p.stdin, ahead, done) }()
		err = match(bufio.NewReaderSize(out, 64<<10), ahead, yield)
		close(done)
		if err != nil {
			cmd.Process.Kill() // it may wait for somebody to read; Wait tells how it ended
		}
		waitErr := cmd.Wait()
		if err == nil {
			err = errors.Join(<-readErr, waitErr)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(keyedLine{}, err)
		}
	}, nil
}

var errStopped = errors.New("stopped")

// feed sends the lines of a text to the script, and hands them over in the same order. It ends with the text, or with done.
func feed(script io.WriteCloser, r io.Reader, ahead chan<- string, done <-chan struct{}) error {
	defer close(ahead)
	w := bufio.NewWriterSize(script, 64<<10)
	for line, err := range lines(r) {
		if err != nil {
			script.Close()
			return err
		}
		select {
		case ahead <- line:
		default: // the other side waits for keys of lines that may be in the buffer
			w.Flush()
			select {
			case ahead <- line:
			case <-done:
				return nil
			}
		}
		b, err := json.Marshal(line)
		if err != nil {
			return err
		}
		w.Write(b)
		if err := w.WriteByte('\n'); err != nil {
			return nil // the script has ended, and its last word says why
		}
	}
	w.Flush() // likewise
	return script.Close()
}

// match yields each line with its key.
func match(keys *bufio.Reader, ahead <-chan string, yield func(keyedLine, error) bool) error {
	for line := range ahead {
		text, err := keys.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the script of -e ended before its input: %w", err)
		}
		var key string
		if err := json.Unmarshal(text, &key); err != nil {
			var said struct{ Error string }
			if err := json.Unmarshal(text, &said); err != nil || said.Error == "" {
				return errors.New("the script of -e wrote something else than keys")
			}
			return errors.New(said.Error)
		}
		if !yield(keyedLine{line, key}, nil) {
			return errStopped
		}
	}
	return nil
}
