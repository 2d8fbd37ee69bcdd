// The states a face can show: neutral and Mikels' eight emotions, as EmoSet labels them.
export const EMOTIONS = ['amusement', 'anger', 'awe', 'contentment', 'disgust', 'excitement', 'fear', 'sadness'];
export const EXPRESSIONS = ['neutral', ...EMOTIONS];
