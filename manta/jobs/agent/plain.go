package agent

import "strings"

// builtins are the words that bash does not look for on PATH: its own commands, and its syntax.
var builtins = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`. : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown echo enable eval exec
		exit export false fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return set shift shopt source
		suspend test times trap true type typeset ulimit umask unalias unset wait
		if then else elif fi case esac for select while until do done in function time coproc`) {
		m[w] = true
	}
	return m
}()

// plain splits a command that bash would only split into words and then become: a program with arguments, of plain characters or in quotes within which nothing
// is expanded. It reports false for everything else. Starting a shell costs as much as most small programs themselves.
func plain(command string) ([]string, bool) {
	var words []string
	word, open := []byte(nil), false
	end := func() {
		if open {
			words = append(words, string(word))
			word, open = nil, false
		}
	}
	for i := 0; i < len(command); i++ {
		c := command[i]
		switch {
		case c == ' ' || c == '\t':
			end()
		case c == '\'' || c == '"':
			n := strings.IndexByte(command[i+1:], c)
			if n < 0 {
				return nil, false
			}
			text := command[i+1 : i+1+n]
			if len(words) == 0 || strings.IndexByte(text, 0) >= 0 || c == '"' && strings.ContainsAny(text, "$`\\!") {
				return nil, false
			}
			word, open = append(word, text...), true
			i += 1 + n
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_@%+:,./-", c) >= 0, c == '=' && len(words) > 0:
			word, open = append(word, c), true
		default:
			return nil, false
		}
	}
	end()
	if len(words) == 0 || builtins[words[0]] || strings.HasPrefix(words[0], "%") { // %1 is a job of the shell
		return nil, false
	}
	return words, true
}
