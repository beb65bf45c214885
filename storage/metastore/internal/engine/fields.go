package engine

// scanFields calls visit for each top-level field of a JSON object that is known to be valid, with the name as written between its
// quotes and the value's own bytes. A name may come more than once; the last one counts, as with encoding/json.
func scanFields(object []byte, visit func(name, value []byte)) {
	i := skipSpace(object, 0)
	if i >= len(object) || object[i] != '{' {
		return
	}
	i = skipSpace(object, i+1)
	for i < len(object) && object[i] == '"' {
		end := skipValue(object, i)
		name := object[i+1 : end-1]
		i = skipSpace(object, end)
		i = skipSpace(object, i+1) // the colon
		if i >= len(object) {
			return
		}
		end = skipValue(object, i)
		visit(name, object[i:end])
		i = skipSpace(object, end)
		if i >= len(object) || object[i] != ',' {
			return
		}
		i = skipSpace(object, i+1)
	}
}

// scanElements calls visit for each element of a valid JSON array.
func scanElements(array []byte, visit func(value []byte)) {
	i := skipSpace(array, 1)
	for i < len(array) && array[i] != ']' {
		end := skipValue(array, i)
		visit(array[i:end])
		i = skipSpace(array, end)
		if i < len(array) && array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the valid JSON value that begins at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		for i++; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(b)
	case '{', '[':
		depth := 0
		for ; i < len(b); i++ {
			switch b[i] {
			case '"':
				i = skipValue(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(b)
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

func isNull(raw []byte) bool { return len(raw) == 0 || raw[0] == 'n' }
