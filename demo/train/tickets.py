"""Messages to a shop, each with its topic, in the shape of RAFT (Alex et al. 2021, arXiv:2109.14076): 50 rows to learn, 100 to be tested.

    python demo/train/tickets.py

writes `tickets.train.jsonl`, prompt and completion, and `tickets.test.jsonl`, prompt and choices. The sentences of a topic are written by hand;
those that are learnt are not among those of the test, only what is put into them is.
"""

import json
import os
import random

HERE = os.path.dirname(os.path.abspath(__file__))
ITEMS = """kettle|desk lamp|pair of boots|tent|coffee grinder|office chair|headset|winter coat|bicycle pump|keyboard|blanket|bread knife
toaster|rucksack|garden hose|alarm clock|frying pan|yoga mat|radio|suitcase""".replace("\n", "|").split("|")
OPENERS = ["", "", "", "Hello, ", "Hi there, ", "Good morning. ", "Dear team, ", "Excuse me, "]
CLOSERS = ["", "", "", " Thanks.", " Please advise.", " Regards, Jo", " Order {n}.", " I look forward to your reply."]

# By topic: six sentences to learn, ten to be tested with.
SENTENCES = {
    "billing": (
        """I was charged twice for the {x}.
My card statement shows a sum that I do not recognise.
The invoice for the {x} has the wrong address on it.
Why did the price of the {x} go up between the basket and the receipt?
I need a receipt with tax for my accounts.
The discount code was not taken off the total.""",
        """You took the money for the {x} two times.
There is an amount on my bank account from you that I never agreed to.
Can you send me the bill for the {x} again, made out to my company?
I paid more for the {x} than your page says.
The voucher that I entered did not lower the sum.
My credit card was debited although the payment page gave an error.
Please explain the extra fee on my last invoice.
I would like to pay for the {x} in instalments. Is that possible?
The tax number on the receipt is wrong.
A subscription fee was taken that I cancelled in May.""",
    ),
    "delivery": (
        """Where is my {x}? It should have come on Monday.
The parcel was left in the rain at the wrong door.
Tracking has said "in transit" for nine days.
Can the {x} be sent to my office instead?
The driver did not ring and took the {x} away again.
How long does shipping to Norway take?""",
        """My {x} still has not arrived.
The courier says that he handed the package to somebody, but not to me.
When will the {x} be dispatched?
The tracking number that you gave me does not exist.
Please change the address that the {x} goes to.
It has been two weeks and no parcel has come.
Do you ship to islands?
Could the driver leave the {x} with my neighbour?
Half of my order is here, the {x} is still on its way, it seems.
The package was sent to the house where I lived before.""",
    ),
    "return": (
        """I want to send the {x} back. It is too small.
How do I get a label to return the {x}?
I have changed my mind and would like my money back.
You got the {x} back last week. When do I get the refund?
Can I exchange the {x} for a blue one?
Is it too late to give the {x} back after a month?""",
        """The {x} is not what I wanted. How can I return it?
Please swap the {x} for a larger size.
I sent the {x} back ten days ago and have seen no refund.
Do I have to pay for the postage when I send something back?
The {x} was a present, and she already has one. May I bring it back?
Can I return the {x} without its box?
I would like to withdraw from the purchase of the {x}.
Which address do returns go to?
I ordered two by mistake and would like to hand one {x} back.
May I exchange the {x} in one of your shops?""",
    ),
    "defect": (
        """The {x} stopped working after two days.
The {x} makes a loud noise and smells of burning.
A screw is missing, and the {x} cannot be put together.
The {x} broke when I first used it.
There is a crack along the side of the {x}.
The {x} does not switch on any more.""",
        """My {x} fell apart within a week.
The handle of the {x} came off in my hand.
The {x} has a hole in it.
Since yesterday the {x} does nothing at all.
The {x} leaks at the bottom.
The {x} wobbles and one part is bent.
The zip of the {x} is stuck and torn.
There are scratches all over the {x}, straight from the box.
The {x} overheats after five minutes.
The manual of the {x} shows a part that is not there.""",
    ),
    "account": (
        """I cannot log in to the site.
The link to set a new password never comes.
Please delete my profile and all of my data.
How do I change the e-mail address that I sign in with?
My account has been locked after three attempts.
Stop sending me your newsletter.""",
        """The site says that my password is wrong, but it is not.
Someone else seems to have signed in as me.
I would like to close my account for good.
The code for signing in does not reach my phone.
How can I change my user name?
Please take me off your mailing list.
I have two profiles by accident. Can they be merged?
I forgot which e-mail I registered with.
Your app logs me out each time I open it.
What data do you have about me?""",
    ),
}
PROMPT = "Message: {} Topic:"


def messages(rng, sentences, count):
    """`count` different messages from these sentences, each sentence as often as another."""
    made = []
    while len(made) < count:
        sentence = sentences[len(made) % len(sentences)]
        text = rng.choice(OPENERS) + sentence + rng.choice(CLOSERS)
        text = text.format(x=rng.choice(ITEMS), n=rng.randint(1000, 9999)) if "{" in text else text
        if text not in made:
            made.append(text)
    return made


def write(name, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    rng = random.Random(31)
    choices = [f" {topic}" for topic in SENTENCES]
    train, test = [], []
    for topic, (learnt, tested) in SENTENCES.items():
        for text in messages(rng, learnt.split("\n"), 10):
            train.append({"prompt": PROMPT.format(text), "completion": f" {topic}"})
        for text in messages(rng, tested.split("\n"), 20):
            test.append({"prompt": PROMPT.format(text), "choices": choices, "answer": f" {topic}"})
    rng.shuffle(train)
    rng.shuffle(test)
    write("tickets.train.jsonl", train)
    write("tickets.test.jsonl", test)


if __name__ == "__main__":
    main()
