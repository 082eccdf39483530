//! Texts to try a model on: one shows which inputs of its matrices matter, another what packing these changed.

use super::Model;
use crate::error::{Error, Result};
use crate::tokenizer::EncodeOptions;

/// A bit of everything: what a model reads decides which of its inputs are large, but most of them are so in any text.
const ANY_TEXT: &str = r#"The harbour was quiet when Ines came down the steps with two cups of coffee. "You are early," she said, and sat on the wall
beside the nets. Her brother did not look up. He had counted the boats three times since sunrise, and each time one was missing.

Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. In the first step chlorophyll absorbs a photon; in the second,
called the Calvin cycle, enzymes build carbohydrates from CO2. About 40% of the energy is lost as heat.

Q: A train leaves at 9:15 and travels 180 km at 72 km/h. When does it arrive?
A: It needs 180 / 72 = 2.5 hours, so it arrives at 11:45.

def mean(values: list[float]) -> float:
    """Average of the values; 0 if there are none."""
    if not values:
        return 0.0
    return sum(values) / len(values)

{"name": "Ada Park", "age": 36, "email": "ada@example.org", "tags": ["admin", "editor"], "active": true}

Dear Mr. Olsen, thank you for your letter of March 3rd. We are sorry that the order arrived late, and have refunded the postage. Please let us
know if we can do anything else. Kind regards, the service team.

1. Preheat the oven to 200 degrees.
2. Mix flour, butter and a pinch of salt; add cold water, one spoon at a time.
3. Let the dough rest for half an hour, then roll it out.

O gentle night, lay down thy darker cloak, and bid the weary traveller be still; the moon hath risen pale above the oak, the mist is white
upon the western hill.

La ville se réveille lentement sous la pluie. Das Buch liegt auf dem Tisch, aber niemand liest es. El viento del norte trae nieve.

The court held that the contract was void, since neither party had signed it. An appeal must be filed within 30 days of the judgment.
In 1969 two people walked on the Moon; more than 500 million watched. What would you have said first? I really don't know!"#;

/// Shakespeare, Sonnet 18: every model of English knows something about it.
const SONNET: &str = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate: Rough winds do shake the darling buds \
    of May, And summer's lease hath all too short a date: Sometime too hot the eye of heaven shines, And often is his gold complexion dimm'd; \
    And every fair from fair sometime declines, By chance, or nature's changing course, untrimm'd; But thy eternal summer shall not fade Nor \
    lose possession of that fair thou owest; Nor shall Death brag thou wander'st in his shade, When in eternal lines to time thou growest: So \
    long as men can breathe or eyes can see, So long lives this, and this gives life to thee.";

/// Tokens of a text, in two parts with nothing in common: what is learnt from one is not measured on the same.
pub(super) struct Sample {
    /// To see which inputs matter.
    pub learn: Vec<u32>,
    /// To measure a divergence with.
    pub measure: Vec<u32>,
}

impl Sample {
    /// Tokens of a part.
    const MOST: usize = 512;
    /// Fewer tokens of a text say nothing.
    const LEAST: usize = 32;

    /// Of `text`, one half for each; without one of two short texts, or, of a model without a tokenizer, of any tokens.
    ///
    /// # Errors
    /// A text of fewer than 32 tokens; a tokenizer that is broken, or, with a text, missing.
    pub fn new(model: &Model, text: Option<&str>) -> Result<Self> {
        let encode = |text: &str| model.tokenizer()?.encode(text, EncodeOptions::default());
        let any = |salt: u32| {
            let vocab = model.spec().vocab_size as u32;
            (0..128)
                .map(|i: u32| (i ^ salt).wrapping_mul(2_654_435_761) % vocab)
                .collect()
        };
        let (mut learn, mut measure) = match text {
            Some(text) => {
                let mut tokens = encode(text)?;
                if tokens.len() < Self::LEAST {
                    let e = Error::usage("the text is too short to measure with");
                    return Err(e
                        .expected(format!("at least {} tokens", Self::LEAST))
                        .found(tokens.len()));
                }
                let second = tokens.split_off(tokens.len() / 2);
                (tokens, second)
            }
            None if model.tokenizer().is_ok() => (encode(ANY_TEXT)?, encode(SONNET)?),
            None => (any(1 << 16), any(0)),
        };
        let most = Self::MOST.min(model.spec().context_length);
        learn.truncate(most);
        measure.truncate(most);
        Ok(Sample { learn, measure })
    }
}
