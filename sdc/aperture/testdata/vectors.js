// Makes vectors.json: what node-aperture, unmodified, makes of rules and requests.
//
//	git clone https://github.com/TritonDataCenter/node-aperture && cd node-aperture && npm install
//	node vectors.js >vectors.json
'use strict';
const aperture = require(process.cwd());

const typeTable = {sourceip: 'ip', date: 'date', day: 'day', time: 'time', method: 'string', overwrite: 'boolean', activeRoles: 'array', n: 'number'};
const parser = aperture.createParser({types: aperture.types, typeTable});
const evaluator = aperture.createEvaluator({types: aperture.types, typeTable});
const when = '2026-11-23T09:05:34.000Z'; // a Monday

const contexts = [
	{principal: 'Fred', action: 'getobject', resource: '/demo/stor/a.js', conditions: {
		sourceip: '10.1.2.3', date: when, day: when, time: when, method: 'GET', overwrite: false, activeRoles: ['r1'], n: 31}},
	{principal: 'Bob', action: 'putobject', resource: '/demo/stor/b c', conditions: {
		sourceip: '::ffff:192.168.1.1', date: '2026-11-29T23:59:59.000Z', day: '2026-11-29T23:59:59.000Z', time: '2026-11-29T23:59:59.000Z',
		method: 'PUT', overwrite: true, activeRoles: [], n: -0.5}},
	{principal: 'fred', action: 'getdirectory', resource: '/demo/stor', conditions: {sourceip: '2001:db8::1'}},
];

const rules = [
	'CAN getobject', 'can getobject', 'Can GETOBJECT', 'CAN NOT getobject', 'CAN getobject and putobject', 'CAN getobject, putobject and getdirectory',
	'CAN getobject, putobject, and getdirectory', 'CAN getobject, putobject, getdirectory, and x', 'CAN *', 'CAN all', 'CAN everything', 'CAN ANYTHING',
	'CAN getobject *', 'CAN getobject all', 'CAN getobject /demo/stor/a.js', 'CAN putobject "/demo/stor/b c"', 'CAN getobject /demo/stor/a',
	'CAN getobject and putobject /demo/stor/a.js and "/demo/stor/b c"',
	'Fred CAN getobject', 'Fred and Bob CAN getobject and putobject', '* CAN getobject', '"Fred" can getobject', 'Fred, Bob and fred can * *',
	'CAN /^get/::regex', 'CAN /^GET/i::regex', 'CAN /^GET/::regex', 'CAN /GET/i::regexp *', 'CAN getobject /\\.js$/::REGEX', 'CAN * /[/]stor[/]/::regex',
	'CAN * /stor\\/(a|b)/::regex', 'CAN * /a b/::regex', 'CAN * /b c$/::regex', 'CAN getobject /a', 'CAN getobject /a/b::regex/c',
	'CAN get*', 'CAN *object', 'CAN g*t', 'CAN getobject /demo/stor/*', 'CAN getobject /*/stor/a.js', 'CAN getobject \\*',
	'CAN getobject WHEN sourceip = 10.1.2.3', 'CAN getobject IF sourceip = 10.0.0.0/8', 'CAN * where sourceip = 10.2.0.0/16', 'CAN * WHEN sourceip != 10.0.0.0/8',
	'CAN * WHEN sourceip = 192.168.1.0/24', 'CAN * WHEN sourceip = "::ffff:c0a8:101"', 'CAN * WHEN sourceip = "2001:db8::"/32', 'CAN * WHEN sourceip = "2001:db8::/32"',
	'CAN * WHEN sourceip = "::/0"', 'CAN * WHEN sourceip = 0.0.0.0/0', 'CAN * WHEN sourceip in (10.1.2.3, 192.168.1.1)', 'CAN * WHEN NOT sourceip in (10.0.0.0/8)',
	'CAN * WHEN sourceip = 1.2.3.4.5', 'CAN * WHEN sourceip = 10.0.0.0/33', 'CAN * WHEN sourceip like 10.0.0.0', 'CAN * WHEN sourceip = 10.0.0.0/-1',
	'CAN * WHEN date > 2026-11-23', 'CAN * WHEN date < 2026-11-23', 'CAN * WHEN date = 2026-11-23T09:05:34', 'CAN * WHEN date >= 2026-11-23T09:05:34Z',
	'CAN * WHEN date <= "Nov 24, 2026"', 'CAN * WHEN date > "Mon, 23 Nov 2026 09:00:00 GMT"', 'CAN * WHEN date = yesterday', 'CAN * WHEN date = 12:32:00',
	'CAN * WHEN day = Monday', 'CAN * WHEN day = mon', 'CAN * WHEN day = M', 'CAN * WHEN day = 1', 'CAN * WHEN day = SU', 'CAN * WHEN day >= Friday', 'CAN * WHEN day < 7',
	'CAN * WHEN day in (Saturday, Sunday)', 'CAN * WHEN day = 2026-11-22', 'CAN * WHEN day = 0', 'CAN * WHEN day = 8', 'CAN * WHEN day = blue', 'CAN * WHEN day != TH',
	'CAN * WHEN time > 09:00:00', 'CAN * WHEN time = 09:05:34', 'CAN * WHEN time < 09:05:34', 'CAN * WHEN time >= 23:59:59', 'CAN * WHEN time <= 2001-01-01T12:00:00',
	'CAN * WHEN time = 20', 'CAN * WHEN time = 20:00', 'CAN * WHEN time = noon',
	'CAN * WHEN method = GET', 'CAN * WHEN method = get', 'CAN * WHEN method != GET', 'CAN * WHEN method < H', 'CAN * WHEN method LIKE /^g/i', 'CAN * WHEN method like /^g/',
	'CAN * WHEN method like "/^(GET|PUT)$/"', 'CAN * WHEN method like /*x/', 'CAN * WHEN method in (GET, HEAD)', 'CAN * WHEN method in GET', 'CAN * WHEN method in ()',
	'CAN * WHEN overwrite = true', 'CAN * WHEN overwrite = false', 'CAN * WHEN overwrite != true', 'CAN * WHEN overwrite = yes', 'CAN * WHEN overwrite > true',
	'CAN * WHEN activeRoles contains r1', 'CAN * WHEN activeRoles = r1', 'CAN * WHEN NOT activeRoles contains r1', 'CAN * WHEN activeRoles in (r1)',
	'CAN * WHEN n = 31', 'CAN * WHEN n = 0x1F', 'CAN * WHEN n > 30.5', 'CAN * WHEN n < 0', 'CAN * WHEN n = 3e1', 'CAN * WHEN n = 1,5', 'CAN * WHEN n = many', 'CAN * WHEN n >= -0.5',
	'CAN * WHEN n = 31 AND method = GET', 'CAN * WHEN n = 31 AND method = PUT', 'CAN * WHEN n = 0 OR method = PUT', 'CAN * WHEN n = 0 OR n = 1 AND n = 31 OR n = 31',
	'CAN * WHEN (n = 0 OR n = 31) AND n = 31', 'CAN * WHEN NOT (n = 0 OR n = 31)', 'CAN * WHEN NOT n = 0 AND n = 31', 'CAN * WHEN NOT NOT n = 31', 'CAN * WHEN not (not n = 31)',
	'CAN * WHEN n::number = 31', 'CAN * WHEN n::string = 31', 'CAN * WHEN method::string = GET', 'CAN * WHEN method::blob = GET', 'CAN * WHEN moon = full', 'CAN * WHEN moon::string = full',
	'CAN * WHEN moon::string = full OR n = 31', 'CAN * WHEN n = 31 OR moon::string = full', 'CAN * WHEN NOT moon::string = full', 'CAN * WHEN sourceip::ip = 10.1.2.3',
	'', 'CAN', 'CAN CAN', 'Fred', 'Fred Bob CAN x', 'CAN a b c', 'CAN a and', 'CAN a, b', 'CAN a and and', 'CAN a WHEN', 'CAN a WHEN n', 'CAN a WHEN n =', 'CAN a WHEN n = 1 n = 2',
	'CAN a WHEN (n = 1', 'CAN a WHEN n = 1)', 'CAN a WHEN n = 1 AND', 'CAN to', 'CAN "to"', 'CAN "and" and "or"', 'CAN a::b', 'CAN "a::b"', 'CAN a:b', 'CAN a,b and c', 'CAN (a)',
	'CAN "a\\"b"', 'CAN "a', 'CAN * and a', 'CAN a and *', 'CAN a\tb\nWHEN\tn = 31', 'CAN a WHEN sourceip = ::1', 'CAN and', 'CAN if', 'CAN CANdy', 'CANdy CAN getobject', 'CAN //::regex',
	'CAN /[/::regex', 'CAN /a/x::regex', 'CAN /(/::regex', 'CAN /a/::regexes', 'CAN a /b/::regex and c', 'CAN getobject in', 'CAN getobject WHEN n in (31, 32)', 'CAN getobject WHEN n in (31 32)',
	'CAN getobject WHEN n IN (30)', 'CAN getobject WHEN n = 31 OR (n = 30 AND (n = 29 OR NOT n = 28))',
];

const out = [];
for (const text of rules) {
	const v = {text};
	let rule;
	try {
		rule = parser.parse(text);
		v.parses = true;
	} catch (e) {
		v.parses = false;
		out.push(v);
		continue;
	}
	v.answers = contexts.map((c) => {
		const conditions = Object.assign({}, c.conditions);
		for (const k of ['date', 'day', 'time']) if (conditions[k]) conditions[k] = new Date(conditions[k]);
		try {
			return evaluator.evaluate(rule, Object.assign({}, c, {conditions})) ? 'yes' : 'no';
		} catch (e) {
			return 'error';
		}
	});
	out.push(v);
}
process.stdout.write('{"contexts": ' + JSON.stringify(contexts, null, '\t') + ',\n"rules": [\n' + out.map((v) => JSON.stringify(v)).join(',\n') + '\n]}\n');
