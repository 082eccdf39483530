"""Synthetic sentences about people, each with the JSON record that says the same. Every name here is made up from common ones."""

import json

FIRST = """Maria Jonas Aiko Peter Fatima Lucas Elena Omar Ingrid Tomas Priya Daniel Chloe Ahmed Sofia Viktor Grace Mateo Hannah Kofi
Nadia Samuel Yuki Clara Pavel Rosa Ethan Leila Oscar Beatriz Henrik Amara David Mei Julia Stefan Zara Paul Irina Miguel Anna Rajesh
Emily Carlos Freya Hassan Laura Nikolai Olivia Bruno Tara Liam Sara Marco Ella Diego Nina Felix Ruth Kenji""".split()
LAST = """Lopez Berg Tanaka Novak Rahman Moreau Rossi Haddad Larsen Kowalski Sharma Cohen Dubois Khan Silva Petrov Mensah Garcia Weber
Osei Popov Turner Sato Fischer Horvat Costa Walker Karimi Lind Almeida Nilsson Okafor Levi Chen Hoffmann Ionescu Malik Schmidt Volkov
Torres Keller Patel Clark Ramirez Jensen Aziz Martin Orlov Wright Ferrari Murphy Byrne Lindgren Conti Hall Vargas Becker Wolf""".split()
CITY = """Lisbon Oslo Berlin Kyoto Toronto Lagos Madrid Chicago Nairobi Vienna Dublin Mumbai Seoul Prague Cairo Boston Helsinki Lima
Warsaw Sydney Athens Denver Geneva Hanoi Porto Milan Accra Bergen Quito Riga Zurich Austin Tunis Montreal Naples Havana Cork Leeds
Dakar Perth Lyon Osaka Bogota Tallinn Seville Glasgow Ankara Jakarta Basel Krakow""".split()
JOB = """nurse teacher baker carpenter pilot engineer lawyer chef farmer painter dentist plumber musician librarian architect mechanic
translator gardener photographer tailor accountant journalist waiter surgeon electrician biologist driver judge potter editor
fisherman optician florist welder chemist firefighter""".split()

SENTENCES = [
    "{name}, {age}, moved from {from} to {to} in {year} to work as {a} {job}.",
    "In {year}, {name} left {from} for {to} and became {a} {job} at the age of {age}.",
    "{name} is {age} years old. Born in {from}, now living in {to} as {a} {job} since {year}.",
    "At {age}, {name} works as {a} {job} in {to}, having come from {from} in {year}.",
    "{name} ({age}) came to {to} from {from} in {year} and found a job as {a} {job}.",
    "After leaving {from} in {year}, {name}, now {age}, settled in {to} as {a} {job}.",
    "{name}, {a} {job} of {age}, has lived in {to} since {year} but grew up in {from}.",
    "It was {year} when {name} moved to {to} from {from}; today, at {age}, they are {a} {job}.",
    "The {job} {name}, aged {age}, went from {from} to {to} in {year}.",
    "{name} packed up in {from} in {year}, took a train to {to}, and at {age} is {a} {job} there.",
    "Meet {name}: {age}, {job}, from {from}, in {to} since {year}.",
    "Since {year} the {age}-year-old {job} {name} has called {to} home instead of {from}.",
]


def person(rng):
    """One (sentence, strict JSON) pair."""
    start, end = rng.sample(CITY, 2)
    job = rng.choice(JOB)
    record = {
        "name": f"{rng.choice(FIRST)} {rng.choice(LAST)}",
        "age": rng.randint(19, 79),
        "from": start,
        "to": end,
        "year": rng.randint(1975, 2024),
        "job": job,
    }
    sentence = rng.choice(SENTENCES).format(**record, a="an" if job[0] in "aeiou" else "a")
    return sentence, json.dumps(record)
