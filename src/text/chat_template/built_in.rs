//! Templates that wgpt brings along.

/// Name and text. `chatml` is OpenAI's format of turns as models that were tuned on it
/// have it; `plain` needs no token of its own. An answer begins with a blank there, which
/// `trim` takes for the one behind the colon, so that the next turn finds its tokens.
pub(super) const TEMPLATES: [(&str, &str); 2] = [
    (
        "chatml",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
         '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "plain",
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}\
         {% else %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '\\n' }}{% endif %}{% endfor %}\
         {% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    ),
];

pub(super) const NAMES: [&str; TEMPLATES.len()] = [TEMPLATES[0].0, TEMPLATES[1].0];
